//! The helper side by side with flock(1), with plain bash, and with the least that the kernel does for it, in one run on one
//! machine: `make bench`.
//!
//! How it measures:
//!
//! - Whole processes, from before they are started until they have ended, by a small program without a C library
//!   (`c/launch.c`), which also has their processor time and their peak memory from the kernel. What a script does in
//!   bash is timed by bash.
//! - All sides of a row take turns, in an order that changes from round to round: what else the machine does is in all of
//!   them. The first rounds are not counted.
//! - All sides get the same environment, and no terminal. What is one process after another stays on one processor;
//!   what runs beside other things has all of them.
//! - A figure is the median of the rounds. Sides are compared round by round: the ratio is the median of the ratios, with
//!   the interval in which that lies with 95 % (of few rounds: all of them).
//! - The floor is a static program without a C library that makes the system calls that the work is (`c/floor.c`).
//! - Each call must end as it is to end: what fails fast is not taken for fast.
//!
//! `rows/` is what is measured, a file a part. `report/` is how it is said. Everything that is started is in the temporary
//! directory of [`scene`], and [`ending`] sees to it that none of it is left, whatever ends us.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::exit,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of its own, outside the walls"
)]

mod args;
mod call;
mod contest;
mod ending;
mod machine;
mod pipe;
mod report;
mod row;
mod rows;
mod scene;
mod stats;

use args::{Args, Form};
use clap::Parser;
use row::{Results, Row};
use scene::Scene;

fn main() {
    let args = Args::parse();
    let scene = Scene::new(args.rounds, args.up_to);
    let machine = machine::look();
    if let Some(warning) = machine.busy() {
        eprintln!("aba-lock-bench: {warning}");
    }
    let mut rows: Vec<Row> = Vec::new();
    for part in args.parts() {
        eprintln!("aba-lock-bench: {}", part.name());
        rows.extend(rows::measure(part, &scene));
        ending::reap();
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
    ending::clean_up();
}
