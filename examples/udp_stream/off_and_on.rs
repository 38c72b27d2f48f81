//! The patch's comparison: high orders off and on the lists, for streams of messages and for pages alone.

use pcpmalloc::{Config, Instance};

use super::balanced;
use super::buffers::{Shape, Source};
use super::meter::Figures;
use super::rounds::{Effort, Gain, calibrate, harmonic_mean, interleave, median};
use super::stream;
use super::sweeps::BATCH;

/// The message sizes of the patch's table, and what it reports for each, in per cent.
const MESSAGES: [(usize, f64); 9] = [
    (64, 1.85),
    (128, 3.96),
    (256, 2.02),
    (1024, 3.54),
    (2048, 3.50),
    (3312, 3.18),
    (4096, 2.89),
    (8192, 4.94),
    (16384, 2.30),
];

/// Two instances: off, on.
fn instances() -> [Instance; 2] {
    [false, true].map(|pcp_high_orders| {
        Instance::new(Config { pcp_high_orders, pcp_batch: BATCH, ..Config::new() }).expect("memory")
    })
}

pub fn print_streams(effort: Effort) {
    for (source, title) in [
        (Source::Slabs, "a piece of a slab of order 3, above 8 KiB a block, as in the kernel of 2021"),
        (Source::Blocks, "a block of pages for each message"),
        (Source::Objects, "an object of pcpmalloc's slab layer, above 8 KiB a run of pages"),
    ] {
        println!("\n### UDP_STREAM: {title}\n");
        print_stream(effort, source);
    }
}

/// As in the patch's table, rates are harmonic means of the runs.
fn print_stream(effort: Effort, source: Source) {
    println!(
        "| bytes | order | off, Mbit/s | on, Mbit/s | gain | gain, CPU time | patch | locks/1000, off | on |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (mut gains, mut lost) = ([const { Vec::new() }; 3], 0);
    for (size, reported) in MESSAGES {
        let (instances, shape) = (instances(), source.shape(size));
        let figures = stream::with_receiver(&instances, shape, size, |sender| {
            let messages = calibrate(effort, 100, |messages| sender.run(1, messages));
            let figures = interleave(effort, 2, |candidate| sender.run(candidate, messages));
            lost += sender.lost;
            figures
        });
        let rate = |figures: &Figures| (8 * size) as f64 * 1000.0 / figures.wall_ns();
        let [off, on] = [0, 1].map(|candidate| harmonic_mean(figures[candidate].iter().map(rate)));
        let [wall, cpu] =
            [Figures::wall_ns, Figures::cpu_ns].map(|taken| Gain::new(&figures[0], &figures[1], taken));
        let (order, locks) = (order_of(shape), locks(&figures));
        println!("| {size} | {order} | {off:.0} | {on:.0} | {wall} | {cpu} | {reported:+.2}% | {locks} |");
        for (gains, gain) in gains.iter_mut().zip([wall.median(), cpu.median(), reported / 100.0]) {
            gains.push(1.0 + gain);
        }
    }
    let [wall, cpu, reported] = gains.map(|gains| (harmonic_mean(gains) - 1.0) * 100.0);
    println!("| harmonic mean | | | | {wall:+.1}% | {cpu:+.1}% | {reported:+.2}% | | |");
    println!("\nMessages lost: {lost}.");
}

/// The order that a buffer's pages come in, as a cell of a table.
pub fn order_of(shape: Shape) -> String {
    match shape {
        Shape::Block { order } => order.to_string(),
        Shape::Piece { size } => format!("3, {} a slab", (32 << 10) / size - 1),
        Shape::Object { layout } => format!("{} bytes", layout.size()),
    }
}

/// Acquisitions of the zone's lock for 1,000 operations, off and on, as cells of a table.
fn locks(figures: &[Vec<Figures>]) -> String {
    let [off, on] = [0, 1].map(|candidate| median(&figures[candidate], Figures::locks_per_1000));
    format!("{off:.1} | {on:.1}")
}

pub fn print_balanced(effort: Effort) {
    println!("\n### Pages: each thread replaces blocks of its own, oldest first, 16 at a time\n");
    println!(
        "| order | threads | off, CPU ns | on, CPU ns | gain, CPU time | locks/1000, off | on | waits/1000, off | on |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let instances = instances();
    for order in [0, 1, 2, 3, 9] {
        for threads in [1, 2, 4, 8] {
            let run = |candidate: usize, work| balanced::run(&instances[candidate], order, threads, work);
            let work = calibrate(effort, 1000, |work| run(1, work));
            let figures = interleave(effort, 2, |candidate| run(candidate, work));
            let [off, on] = [0, 1].map(|candidate| median(&figures[candidate], Figures::cpu_ns));
            let waits = [0, 1].map(|candidate| median(&figures[candidate], Figures::waits_per_1000));
            let gain = Gain::new(&figures[0], &figures[1], Figures::cpu_ns);
            println!(
                "| {order} | {threads} | {off:.1} | {on:.1} | {gain} | {} | {:.2} | {:.2} |",
                locks(&figures),
                waits[0],
                waits[1],
            );
        }
    }
}
