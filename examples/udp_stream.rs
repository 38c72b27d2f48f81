//! The experiment of Mel Gorman's patch "mm/page_alloc: Allow high-order pages to be stored on the per-cpu lists"
//! (Linux 5.14), carried into user space: what blocks of orders 1-3 and 9 on threads' page lists bring to UDP over
//! loopback and to plain page allocation, and what batch and high bring to threads that hand pages to each other.
//! docs/EXPERIMENT.md has what it showed. It prints Markdown; an operation is an allocation and its free, and for
//! streams a message.
//!
//! ```sh
//! cargo run --release --example udp_stream [--quick] [streams] [balanced] [sweeps] [handovers]
//! ```

#[path = "udp_stream/balanced.rs"]
mod balanced;
#[path = "udp_stream/buffers.rs"]
mod buffers;
#[path = "udp_stream/cpus.rs"]
mod cpus;
#[path = "udp_stream/handover.rs"]
mod handover;
#[path = "udp_stream/meter.rs"]
mod meter;
#[path = "udp_stream/off_and_on.rs"]
mod off_and_on;
#[path = "udp_stream/rounds.rs"]
mod rounds;
#[path = "udp_stream/stream.rs"]
mod stream;
#[path = "udp_stream/sweeps.rs"]
mod sweeps;

use std::time::Duration;

use rounds::Effort;

const FULL: Effort = Effort { rounds: 15, run: Duration::from_millis(20) };
const QUICK: Effort = Effort { rounds: 7, run: Duration::from_millis(3) };

/// A word on the command line, and the tables that it stands for.
type Part = (&'static str, fn(Effort));

const PARTS: [Part; 4] = [
    ("streams", off_and_on::print_streams),
    ("balanced", off_and_on::print_balanced),
    ("sweeps", sweeps::print_streams),
    ("handovers", sweeps::print_handovers),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_known = |word: &String| word == "--quick" || PARTS.iter().any(|(name, _)| name == word);
    if let Some(word) = arguments.iter().find(|word| !is_known(word)) {
        eprintln!("{word}: not one of --quick, {}", PARTS.map(|(name, _)| name).join(", "));
        std::process::exit(2);
    }
    let is_given = |word: &str| arguments.iter().any(|argument| argument == word);
    let effort = if is_given("--quick") { QUICK } else { FULL };
    let all = !PARTS.iter().any(|(name, _)| is_given(name));
    PARTS.iter().filter(|(name, _)| all || is_given(name)).for_each(|(_, print)| print(effort));
}
