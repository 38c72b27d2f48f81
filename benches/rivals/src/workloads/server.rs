//! A server, as in Larson and Krishnan's benchmark: each thread replaces blocks of a table at random, and after each
//! round hands the table on, so that others free what it has allocated.

use std::sync::{Barrier, Mutex};

use super::Named;
use super::block::Block;
use super::crew::{Member, measure_crew};
use super::meter::Figures;
use super::random::{Random, Sizes};

pub const ALL: Named = &[("server-2", || server(2)), ("server-8", || server(8))];

/// Blocks in a table.
const LIVE: usize = 2000;
/// Blocks that a thread replaces before it hands its table on: enough that waiting for the others costs little.
const ROUND: usize = 10_000;
/// Rounds of all threads together.
const ROUNDS: usize = 200;

type Table = Vec<Option<Block>>;

fn server(threads: usize) -> Figures {
    let mut sizes = Sizes::between(16, 1024);
    let mut table = || Mutex::new((0..LIVE).map(|_| Some(Block::written(sizes.next()))).collect());
    let tables: Vec<Mutex<Table>> = (0..threads).map(|_| table()).collect();
    let meet = Barrier::new(threads);
    let (tables, meet) = (&tables, &meet);
    let member = |thread: usize| -> Member {
        let (mut random, mut sizes) = (Random::new(thread as u64), Sizes::between(16, 1024));
        Box::new(move || {
            for round in 0..ROUNDS / threads {
                let mut table = tables[(thread + round) % threads].lock().expect("no thread panics");
                replace(&mut table, &mut random, &mut sizes);
                drop(table);
                meet.wait();
            }
        })
    };
    measure_crew((ROUNDS * ROUND) as u64, (0..threads).map(member).collect())
}

fn replace(table: &mut Table, random: &mut Random, sizes: &mut Sizes) {
    for _ in 0..ROUND {
        let place = &mut table[random.below(LIVE)];
        *place = None;
        *place = Some(Block::written(sizes.next()));
    }
}
