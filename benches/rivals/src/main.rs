//! One workload under one allocator, as a process of its own: `rivals-workload NAME` does a fixed amount of work and
//! prints what it cost, `rivals-workload list` prints the names with their groups. `compare` runs it.

mod allocator;
mod workloads;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::start();
    let name = env::args().nth(1).unwrap_or_default();
    if name == "list" {
        for workload in workloads::all() {
            println!("{} {}", workload.name, workload.group);
        }
        return ExitCode::SUCCESS;
    }
    let Some(workload) = workloads::all().find(|workload| workload.name == name) else {
        eprintln!("rivals-workload: no workload `{name}`; `rivals-workload list` names them");
        return ExitCode::FAILURE;
    };
    println!("{}", (workload.run)());
    ExitCode::SUCCESS
}
