//! Batch and high between threads that hand pages over: what of it pays, and what it keeps.

use pcpmalloc::{Config, Instance};

use super::buffers::Source;
use super::handover::{self, Pattern};
use super::meter::{Figures, pages_on_lists};
use super::off_and_on::order_of;
use super::rounds::{Effort, Gain, calibrate, interleave, median};
use super::stream;

/// The batch of zones from 16 MiB on; the ones here stay smaller, where the default is 15.
pub const BATCH: u32 = 63;

/// A configuration and its name.
type Named = (String, Config);

fn knobs(batch: u32, high: u32) -> Named {
    let name = match high {
        0 => format!("batch {batch}, high by demand"),
        high => format!("batch {batch}, high {high}"),
    };
    (name, Config { pcp_batch: batch, pcp_high: high, ..Config::new() })
}

/// Blocks that one thread fills and another one reads and frees: what lies on a list grows cold. By demand, a thread
/// that only frees keeps 4 * batch.
pub fn print_streams(effort: Effort) {
    let configs = [(BATCH, 0), (BATCH, 1), (BATCH, BATCH), (BATCH, 2 * BATCH), (15, 0), (31, 0), (127, 0)]
        .map(|(batch, high)| knobs(batch, high));
    for size in [2048, 4096, 16384] {
        let shape = Source::Blocks.shape(size);
        println!("\n### UDP_STREAM by batch and high: {size} bytes, order {}\n", order_of(shape));
        print_sweep(&configs, |instances| {
            stream::with_receiver(instances, shape, size, |sender| {
                let messages = calibrate(effort, 100, |messages| sender.run(0, messages));
                interleave(effort, instances.len(), |candidate| sender.run(candidate, messages))
            })
        });
    }
}

/// Blocks that nobody writes to.
pub fn print_handovers(effort: Effort) {
    let configs =
        [(BATCH, 0), (BATCH, BATCH), (BATCH, 4 * BATCH), (BATCH, 32 * BATCH), (15, 0), (31, 0), (127, 0)]
            .map(|(batch, high)| knobs(batch, high));
    for (pattern, name) in [
        (Pattern::OneWay, "one thread allocates, one frees"),
        (Pattern::Exchange, "both allocate 1 MiB, then free the other's"),
    ] {
        for order in [0, 3] {
            println!("\n### Pages by batch and high: {name}, order {order}\n");
            print_sweep(&configs, |instances| {
                let run = |candidate: usize, crates| {
                    handover::run(&instances[candidate], order, pattern, crates as usize)
                };
                let crates = calibrate(effort, 16, |crates| run(0, crates));
                interleave(effort, instances.len(), |candidate| run(candidate, crates))
            });
        }
    }
}

/// A line for each configuration: how it compares with the first one, and what is on lists in the end.
fn print_sweep(configs: &[Named], compare: impl FnOnce(&[Instance]) -> Vec<Vec<Figures>>) {
    println!("| | CPU ns | gain, CPU time | locks/1000 | waits/1000 | pages kept |");
    println!("|---|---|---|---|---|---|");
    let instances: Vec<Instance> =
        configs.iter().map(|(_, config)| Instance::new(*config).expect("memory")).collect();
    let figures = compare(&instances);
    for (((name, _), runs), instance) in configs.iter().zip(&figures).zip(&instances) {
        println!(
            "| {name} | {:.1} | {} | {:.1} | {:.2} | {} |",
            median(runs, Figures::cpu_ns),
            Gain::new(&figures[0], runs, Figures::cpu_ns),
            median(runs, Figures::locks_per_1000),
            median(runs, Figures::waits_per_1000),
            pages_on_lists(instance),
        );
    }
}
