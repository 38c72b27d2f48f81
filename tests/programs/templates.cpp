// Much work for a C++ compiler's memory: deep recursion of templates, wide variants, expression templates, and the
// standard library's heavy headers. The program itself allocates in every way the library offers, and prints sums.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

// --- Arithmetic on types: a list of primes, one instantiation a step.
template <std::uint64_t N, std::uint64_t D = 2, bool Done = (D * D > N)>
struct is_prime : std::conditional_t<N % D == 0, std::false_type, is_prime<N, D + 1>> {};
template <std::uint64_t N, std::uint64_t D>
struct is_prime<N, D, true> : std::bool_constant<(N > 1)> {};

template <std::uint64_t... Ns> struct list {};
template <class L, std::uint64_t N> struct push;
template <std::uint64_t... Ns, std::uint64_t N> struct push<list<Ns...>, N> { using type = list<Ns..., N>; };
template <std::uint64_t From, std::uint64_t To, class L = list<>> struct primes {
    using type = typename primes<From + 1, To,
        typename std::conditional_t<is_prime<From>::value, push<L, From>, std::common_type<L>>::type>::type;
};
template <std::uint64_t To, class L> struct primes<To, To, L> { using type = L; };
template <std::uint64_t... Ns> constexpr std::uint64_t sum(list<Ns...>) { return (Ns + ... + 0); }

// --- A matrix product in expression templates, unrolled through index sequences.
template <std::size_t R, std::size_t C> struct matrix {
    std::array<std::uint64_t, R * C> cell{};
    template <std::size_t I, std::size_t J> constexpr std::uint64_t at() const { return std::get<I * C + J>(cell); }
};
template <std::size_t I, std::size_t J, std::size_t R, std::size_t K, std::size_t C, std::size_t... Ks>
constexpr std::uint64_t dot(const matrix<R, K>& a, const matrix<K, C>& b, std::index_sequence<Ks...>) {
    return ((a.template at<I, Ks>() * b.template at<Ks, J>()) + ...);
}
template <std::size_t R, std::size_t K, std::size_t C, std::size_t... Is>
constexpr matrix<R, C> multiply(const matrix<R, K>& a, const matrix<K, C>& b, std::index_sequence<Is...>) {
    return {{dot<Is / C, Is % C>(a, b, std::make_index_sequence<K>{})...}};
}
template <std::size_t R, std::size_t K, std::size_t C>
constexpr matrix<R, C> operator*(const matrix<R, K>& a, const matrix<K, C>& b) {
    return multiply(a, b, std::make_index_sequence<R * C>{});
}

// --- A family of nodes, each a type of its own with containers of its own.
template <int N> struct node {
    std::string name = "node" + std::to_string(N);
    std::vector<std::array<char, N % 97 + 1>> blocks;
    std::map<int, std::unique_ptr<node<N / 2>>> children;
    explicit node(int fanout) {
        for (int i = 0; i < fanout; ++i) {
            blocks.push_back({});
            children.emplace(i * 7 % fanout, std::make_unique<node<N / 2>>(fanout / 2));
        }
    }
    std::size_t weight() const {
        std::size_t total = name.size() + blocks.size() * sizeof(blocks[0]);
        for (const auto& [key, child] : children) total += key + child->weight();
        return total;
    }
};
template <> struct node<0> {
    explicit node(int) {}
    std::size_t weight() const { return 1; }
};

template <std::size_t... Is> std::size_t forest(std::index_sequence<Is...>) {
    return (node<static_cast<int>(Is * 5 + 3)>(5).weight() + ...);
}

// --- A wide variant, visited in pairs: every pair of alternatives is a function.
template <std::size_t N> struct shape { std::uint64_t side = N; };
template <class S> struct any_shape;
template <std::size_t... Is> struct any_shape<std::index_sequence<Is...>> { using type = std::variant<shape<Is>...>; };
using shapes = any_shape<std::make_index_sequence<12>>::type;

template <std::size_t... Is> std::vector<shapes> all_shapes(std::index_sequence<Is...>) {
    return {shapes{std::in_place_index<Is>}...};
}

std::uint64_t pairs() {
    const auto all = all_shapes(std::make_index_sequence<12>{});
    std::uint64_t total = 0;
    for (const auto& a : all)
        for (const auto& b : all)
            total += std::visit([](auto x, auto y) { return sizeof(std::tuple<decltype(x), decltype(y)>) + x.side * y.side; }, a, b);
    return total;
}

// --- Sorting rows of many shapes: algorithms, comparators and hash maps for each.
template <class... Ts> struct table {
    using row = std::tuple<Ts...>;
    std::vector<row> rows;
    std::unordered_map<std::string, std::function<std::uint64_t(const row&)>> columns;
    template <std::size_t... Is> table(int count, std::index_sequence<Is...>) {
        for (int i = 0; i < count; ++i) rows.emplace_back(Ts((i * 7919 + static_cast<int>(Is) * 104729) % 1009)...);
        (columns.emplace("column" + std::to_string(Is), [](const row& r) { return std::uint64_t(std::get<Is>(r)); }), ...);
    }
    std::uint64_t checksum() {
        std::stable_sort(rows.begin(), rows.end());
        std::map<row, int> counts;
        for (const auto& r : rows) ++counts[r];
        std::uint64_t total = counts.size();
        for (const auto& [name, column] : columns)
            total = std::accumulate(rows.begin(), rows.end(), total, [&](auto t, const row& r) { return t + column(r) * name.size(); });
        return total;
    }
};
template <class... Ts> std::uint64_t checksum(int count) {
    return table<Ts...>(count, std::index_sequence_for<Ts...>{}).checksum();
}

// --- Over-aligned and nothrow new, memory resources, exceptions, threads.
struct alignas(256) wide { char bytes[300]; };

std::size_t operators() {
    std::size_t good = 0;
    std::vector<std::unique_ptr<wide>> kept;
    for (int i = 0; i < 1000; ++i) {
        kept.push_back(std::make_unique<wide>());
        good += reinterpret_cast<std::uintptr_t>(kept.back().get()) % 256 == 0;
    }
    std::unique_ptr<int[]> array(new (std::nothrow) int[100000]());
    good += std::count(array.get(), array.get() + 100000, 0);
    volatile std::size_t huge = SIZE_MAX / 4;
    good += ::operator new(huge, std::nothrow) == nullptr;
    try {
        ::operator delete(::operator new(huge));
    } catch (const std::bad_alloc&) {
        ++good;
    }
    std::pmr::monotonic_buffer_resource pool;
    std::pmr::map<int, std::pmr::string> names(&pool);
    for (int i = 0; i < 5000; ++i) names.emplace(i, std::string(i % 100, 'x'));
    return good + names.size();
}

std::size_t thrown(int depth) {
    try {
        if (depth == 0) throw std::runtime_error(std::string(500, 'e'));
        return thrown(depth - 1) + 1;
    } catch (const std::runtime_error& error) {
        if (depth % 3 == 0) return std::string(error.what()).size();
        throw;
    }
}

std::size_t words(int seed) {
    std::ostringstream text;
    for (int i = 0; i < 3000; ++i) text << "key" << (i * seed) % 977 << '=' << i << ' ';
    const std::string all = text.str();
    const std::regex pair("([a-z]+)([0-9]+)=([0-9]+)");
    std::unordered_map<std::string, std::vector<std::string>> found;
    for (std::sregex_iterator it(all.begin(), all.end(), pair), end; it != end; ++it) found[(*it)[2]].push_back((*it)[3]);
    std::size_t total = 0;
    for (const auto& [key, values] : found) total += key.size() * values.size() + values.back().size();
    return total;
}

int main() {
    std::printf("primes %llu\n", static_cast<unsigned long long>(sum(primes<2, 400>::type{})));
    constexpr matrix<9, 9> m = [] { matrix<9, 9> m; for (std::size_t i = 0; i < 81; ++i) m.cell[i] = i % 10; return m; }();
    constexpr auto power = m * m * m * m;
    std::printf("matrix %llu\n", static_cast<unsigned long long>(power.at<3, 5>()));
    std::printf("forest %zu\n", forest(std::make_index_sequence<4>{}));
    std::printf("pairs %llu\n", static_cast<unsigned long long>(pairs()));
    const std::uint64_t rows = checksum<int, long>(5000) + checksum<short, unsigned, long>(4000);
    std::printf("rows %llu\n", static_cast<unsigned long long>(rows));
    std::printf("operators %zu\n", operators());
    std::printf("thrown %zu\n", thrown(50));
    std::vector<std::future<std::size_t>> tasks;
    for (int seed = 1; seed <= 6; ++seed) tasks.push_back(std::async(std::launch::async, words, seed));
    for (auto& task : tasks) std::printf("words %zu\n", task.get());
}
