// Work for a C++ compiler's memory: types by the thousand from templates, and the standard library's heavy headers.
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

// A list of primes, one instantiation a step.
template <std::uint64_t N, std::uint64_t D = 2, bool Done = (D * D > N)>
struct is_prime : std::conditional_t<N % D == 0, std::false_type, is_prime<N, D + 1>> {};
template <std::uint64_t N, std::uint64_t D>
struct is_prime<N, D, true> : std::bool_constant<(N > 1)> {};

template <std::size_t... Is>
constexpr std::uint64_t primes(std::index_sequence<Is...>) { return ((is_prime<Is>::value ? Is : 0) + ...); }

// Containers of types that differ in one number each.
template <std::size_t N> struct node {
    std::string name = "node" + std::to_string(N);
    std::vector<std::array<char, N + 1>> blocks;
    std::map<int, std::unique_ptr<node<N / 2>>> children;
    std::size_t weight() const {
        std::size_t total = name.size() + blocks.size();
        for (const auto& [key, child] : children) total += key + child->weight();
        return total;
    }
};
template <> struct node<0> {
    std::size_t weight() const { return 1; }
};
template <std::size_t... Is> std::size_t forest(std::index_sequence<Is...>) {
    return (node<Is * 3 + 2>().weight() + ...);
}

// A wide variant, visited in pairs: every pair of alternatives is a function.
template <std::size_t N> struct shape { std::uint64_t side = N; };
template <std::size_t... Is> std::uint64_t pairs(std::index_sequence<Is...>) {
    const std::vector<std::variant<shape<Is>...>> all{shape<Is>{}...};
    std::uint64_t total = 0;
    for (const auto& a : all)
        for (const auto& b : all)
            total += std::visit([](auto x, auto y) { return sizeof(std::pair<decltype(x), decltype(y)>) + x.side; }, a, b);
    return total;
}

int main() {
    static_assert(primes(std::make_index_sequence<400>{}) > 0);
    return static_cast<int>(forest(std::make_index_sequence<3>{}) + pairs(std::make_index_sequence<7>{}));
}
