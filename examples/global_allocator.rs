//! A search index over some 40 MB of text, built on several threads, with pcpmalloc as the global allocator.
//!
//! A writer thread makes up chunks of text and sends them to readers. Each reader splits its chunks into words and keeps
//! an index of its own: small strings in a hash map, lists that grow. The indexes are merged into an ordered one,
//! queried, and dropped. So memory is allocated on one thread and freed on another, small and large, short-lived and
//! long-lived, as servers and compilers do it. At the end the program prints what the allocator did.
//!
//! ```sh
//! cargo run --release --example global_allocator
//! ```

use pcpmalloc::PcpMalloc;
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

#[global_allocator]
static GLOBAL: PcpMalloc = PcpMalloc::new();

const CHUNKS: u32 = 128;
const LINES_A_CHUNK: u32 = 2_500;
const READERS: usize = 4;

fn main() {
    let words = vocabulary(60_000);
    let (chunks, bytes) = write_chunks(words.clone());
    let indexes = read_chunks(chunks);
    let index = merge(indexes);
    let bytes = bytes.join().expect("the writer ends");

    println!("{bytes} bytes of text, {} different words, checksum {:016x}\n", index.len(), checksum(&index));
    print_most_frequent(&index, 10);
    print_answers(&index, &words);
    drop(index);
    print_allocator().expect("a string takes all");
}

/// The numbers of the lines that hold a word, in ascending order; a line counts as often as it has the word.
type Lines = Vec<u32>;

/// A piece of the text, and the number of its first line.
struct Chunk {
    first_line: u32,
    text: String,
}

/// Writes the text on a thread of its own, no more than a few chunks ahead of the readers. The handle gives the
/// length of it all.
fn write_chunks(words: Vec<String>) -> (Receiver<Chunk>, thread::JoinHandle<usize>) {
    let (sender, chunks) = sync_channel(2 * READERS);
    let writer = thread::spawn(move || {
        let mut bytes = 0;
        for number in 0..CHUNKS {
            let text = write_text(&words, number);
            bytes += text.len();
            sender.send(Chunk { first_line: number * LINES_A_CHUNK, text }).expect("a reader is left");
        }
        bytes
    });
    (chunks, writer)
}

/// Shares the chunks out among the readers; each comes back with the index of what it got.
fn read_chunks(chunks: Receiver<Chunk>) -> Vec<HashMap<String, Lines>> {
    let chunks = Arc::new(Mutex::new(chunks));
    let read = move || {
        let mut index = HashMap::new();
        loop {
            // The lock is released at the end of this statement, before the work begins.
            let next = chunks.lock().expect("no reader panicked").recv();
            let Ok(chunk) = next else { return index };
            add_chunk(&mut index, &chunk);
        }
    };
    let readers: Vec<_> = (0..READERS).map(|_| thread::spawn(read.clone())).collect();
    readers.into_iter().map(|reader| reader.join().expect("a reader ends")).collect()
}

fn add_chunk(index: &mut HashMap<String, Lines>, chunk: &Chunk) {
    for (line, number) in chunk.text.lines().zip(chunk.first_line..) {
        for word in line.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty())
        {
            index.entry(word.to_lowercase()).or_default().push(number);
        }
    }
}

/// One ordered index out of many; it is the same however the chunks were shared out.
fn merge(indexes: Vec<HashMap<String, Lines>>) -> BTreeMap<String, Lines> {
    let mut merged = BTreeMap::<String, Lines>::new();
    for (word, lines) in indexes.into_iter().flatten() {
        merged.entry(word).or_default().extend(lines);
    }
    merged.values_mut().for_each(|lines| lines.sort_unstable());
    merged
}

fn print_most_frequent(index: &BTreeMap<String, Lines>, count: usize) {
    let mut by_frequency: Vec<_> = index.iter().map(|(word, lines)| (lines.len(), word)).collect();
    by_frequency.sort_unstable_by(|(a, left), (b, right)| b.cmp(a).then(left.cmp(right)));
    println!("most frequent words:");
    for (frequency, word) in by_frequency.iter().take(count) {
        println!("{frequency:9}  {word}");
    }
}

/// Asks for lines that hold two words, and for words by their beginning.
fn print_answers(index: &BTreeMap<String, Lines>, words: &[String]) {
    println!("\nlines with both words:");
    for (a, b) in [(10, 20), (50, 300), (7, 1_000), (400, 500)] {
        let (a, b) = (&words[a], &words[b]);
        let both = intersection(&index[a], &index[b]);
        println!("{:9}  {a} and {b}, first in lines {:?}", both.len(), &both[..both.len().min(3)]);
    }
    println!("\nwords that begin with:");
    for prefix in ["ka", "mino", "tesura"] {
        let found = index.range(prefix.to_owned()..).take_while(|(word, _)| word.starts_with(prefix));
        let (words, uses) = found.fold((0, 0), |(words, uses), (_, lines)| (words + 1, uses + lines.len()));
        println!("{words:9}  {prefix}..., used {uses} times");
    }
}

/// The numbers that two ascending lists share, each once.
fn intersection(left: &[u32], right: &[u32]) -> Vec<u32> {
    let (short, long) = if left.len() < right.len() { (left, right) } else { (right, left) };
    let mut both: Vec<_> = short.iter().copied().filter(|line| long.binary_search(line).is_ok()).collect();
    both.dedup();
    both
}

/// What Linux would show of itself in /proc, shown by the allocator of this process.
fn print_allocator() -> core::fmt::Result {
    let mut report = String::new();
    pcpmalloc::buddyinfo(&mut report)?;
    report.push('\n');
    pcpmalloc::slabinfo(&mut report)?;
    println!("\nthe allocator at the end:\n{report}");
    Ok(())
}

/// FNV-1a over all words and lines: the same on every run and machine.
fn checksum(index: &BTreeMap<String, Lines>) -> u64 {
    let lines = |lines: &Lines| lines.iter().flat_map(|line| line.to_le_bytes()).collect::<Vec<_>>();
    let bytes = index.iter().flat_map(|(word, found)| word.bytes().chain(lines(found)));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Words of two to five syllables, each other than all before.
fn vocabulary(count: usize) -> Vec<String> {
    const SYLLABLES: [&str; 24] = [
        "ka", "mi", "no", "te", "su", "ra", "lo", "vi", "pe", "du", "shi", "an", "or", "el", "tu", "ba",
        "ne", "gri", "zo", "fa", "qui", "mar", "len", "sto",
    ];
    let mut random = Random(1);
    let mut seen = std::collections::HashSet::new();
    let words = std::iter::repeat_with(|| {
        let syllables = 2 + random.below(4);
        (0..syllables).map(|_| SYLLABLES[random.below(SYLLABLES.len() as u64) as usize]).collect::<String>()
    });
    words.filter(|word| seen.insert(word.clone())).take(count).collect()
}

/// One chunk of text: lines of 5 to 24 words, where the n-th word of the vocabulary comes up 1/n as often as the
/// first (Zipf's law, near enough), and each line begins with a capital.
fn write_text(words: &[String], chunk: u32) -> String {
    let mut random = Random(u64::from(chunk) + 1_000);
    let mut text = String::new();
    for _ in 0..LINES_A_CHUNK {
        let start = text.len();
        for position in 0..5 + random.below(20) {
            if position > 0 {
                text.push_str(if random.below(12) == 0 { ", " } else { " " });
            }
            let rank = (words.len() as f64).powf(random.fraction()) as usize;
            text.push_str(&words[rank - 1]);
        }
        text[start..=start].make_ascii_uppercase();
        text.push_str(".\n");
    }
    text
}

/// SplitMix64: a few lines, and good enough to write a text with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0 and below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// At least 0 and below 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
