//! What is measured, a file a part.

mod handover;
mod held;
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
        Part::Startup => startup::rows(scene),
        Part::Source => source::rows(scene),
        Part::Handover => handover::rows(scene),
        Part::Throughput => throughput::rows(scene),
        Part::Waiters => waiters::rows(scene),
        Part::RunOnce => run_once::rows(scene),
        Part::Update => update::rows(scene),
        Part::Reserve => reserve::rows(scene),
        Part::List => list::rows(scene),
    }
}
