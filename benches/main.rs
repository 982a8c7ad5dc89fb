//! Benchmarks: compares the helper with flock(1), with plain bash, and with the minimal system calls for the same work, in one run
//! on one machine. `make bench` runs it.
//!
//! The method:
//!
//! - The time of a whole process counts, from before its start until after its end. A small program without a C library
//!   (`c/launch.c`) takes it, and gets the processor time and the peak memory from the kernel. Commands of a bash script
//!   are timed by bash.
//! - All sides of a row take turns, in an order that changes from round to round, so that other load on the machine affects all of
//!   them. The first rounds do not count.
//! - All sides get the same environment, and no terminal. Processes that run one after the other stay on one processor;
//!   processes that run at the same time may use all of them.
//! - A figure is the median of the rounds. Sides are compared round by round: the ratio is the median of the ratios, with
//!   its 95 % confidence interval, or with all ratios if there are only a few rounds.
//! - The floor is a static program without a C library that only makes the system calls of the work (`c/floor.c`).
//! - Each call must end with the expected status, so that a fast failure does not count as fast.
//!
//! `rows/` has the measurements, one file for each part; `report/` writes the results. All files are in the temporary directory of
//! [`scene`]. [`cleanup`] removes that directory and kills all processes, however the program ends.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::exit,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lints hold for the helper, and not for programs that measure it"
)]

mod args;
mod call;
mod cleanup;
mod comparison;
mod machine;
mod pinned;
mod pipe;
mod report;
mod row;
mod rows;
mod scene;
mod stats;

use args::{Args, Form};
use clap::Parser;
use machine::Machine;
use row::{Results, Row};
use scene::Scene;

fn main() {
    let args = Args::parse();
    let scene = Scene::new(&args);
    let machine = Machine::inspect();
    for warning in [machine.warn_if_busy(), scene.warn_if_creation_is_slow()].into_iter().flatten() {
        eprintln!("aba-lock-bench: {warning}");
    }
    let mut rows: Vec<Row> = Vec::new();
    for part in args.parts() {
        eprintln!("aba-lock-bench: {}", part.name());
        rows.extend(rows::measure(part, &scene));
        cleanup::reap_orphans();
    }
    let results = Results { machine, rounds: args.rounds, rows };
    if let Some(file) = &args.svg {
        std::fs::write(file, report::svg::draw(&results)).unwrap_or_else(|error| {
            panic!("could not write {}: {error}", file.display());
        });
    }
    let text = match args.form() {
        Form::Table => report::table::write(&results),
        Form::Json => report::json::write(&results),
        Form::Markdown => report::markdown::write(&results),
    };
    print!("{text}");
    cleanup::clean_up();
}
