//! The measurements, one file for each part.

mod clock;
mod handover;
mod holder;
mod list;
mod reserve;
mod run_once;
mod source;
mod startup;
mod throughput;
mod update;
mod waiters;

use crate::args::Part;
use crate::row::Row;
use crate::scene::Scene;

pub(crate) fn measure(part: Part, scene: &Scene) -> Vec<Row> {
    match part {
        Part::Startup => startup::measure(scene),
        Part::Source => source::measure(scene),
        Part::Handover => handover::measure(scene),
        Part::Throughput => throughput::measure(scene),
        Part::Waiters => waiters::measure(scene),
        Part::RunOnce => run_once::measure(scene),
        Part::Update => update::measure(scene),
        Part::Reserve => reserve::measure(scene),
        Part::List => list::measure(scene),
    }
}
