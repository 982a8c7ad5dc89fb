//! The scenes of `update` and `write`. After each call, the file has its old content or the new one, as the helper reported, and the
//! next update succeeds and leaves no other files.

use super::checks::{lock_until_called, must, was_killed};
use crate::driver::{Call, Outcome};
use crate::place::{self, Place};
use crate::scene::{Scene, Verdict};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A command that adds a line.
const ADD: [&str; 3] = ["sh", "-c", "cat; echo two"];

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("update, free", |place| update(create_file(place), &["data/f"]), judge),
        scene(
            "update, waited for",
            |place| {
                update(create_file(place), &["data/f"]).when_it_waits(lock_until_called(&place.path("data/f.lock")))
            },
            judge,
        ),
        scene("update, held", |place| update(hold(place), &["-n", "data/f"]), judge_refused),
        scene("update, beside the litter of another", |place| update(create_remains(place), &["data/f"]), judge),
        scene("update --backup", |place| update(create_file(place), &["--backup", "data/f"]), judge),
        scene("update --in-place", in_place, judge),
        scene("update --create", |place| update(create_directory(place), &["--create", "data/f"]), judge_created),
        scene("write", |place| write(create_file(place), &["data/f"]), judge),
        scene("write --check", |place| write(create_file(place), &["--check", "grep -q two", "data/f"]), judge),
    ]
}

fn update(_: &Place, options: &[&str]) -> Call {
    Call::new(["update"].iter().chain(options).chain(&["--"]).chain(&ADD))
}

fn write(_: &Place, options: &[&str]) -> Call {
    Call::new(["write"].iter().chain(options)).input("one\ntwo\n")
}

fn in_place(place: &Place) -> Call {
    create_file(place);
    Call::new(["update", "--in-place", "data/f", "--", "sh", "-c", "echo two >>\"$1\"", "sh", "{}"])
}

fn create_directory(place: &Place) -> &Place {
    fs::create_dir(place.path("data")).unwrap();
    place
}

fn create_file(place: &Place) -> &Place {
    place.write("data/f", "one\n");
    fs::set_permissions(place.path("data/f"), fs::Permissions::from_mode(0o640)).unwrap();
    place
}

fn hold(place: &Place) -> &Place {
    place.keep(place::create_and_lock(&create_file(place).path("data/f.lock")));
    place
}

fn create_remains(place: &Place) -> &Place {
    place.write("data/.f.aba-lock.d/new", "half of it");
    place.write("data/.f.aba-lock.d/old/f", "");
    create_file(place)
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    judge_from(place, outcome, "one\n")
}

fn judge_created(place: &Place, outcome: &Outcome) -> Verdict {
    judge_from(place, outcome, "")
}

fn judge_from(place: &Place, outcome: &Outcome, old: &str) -> Verdict {
    let (content, new) = (place.read("data/f"), format!("{old}two\n"));
    must(content == old || content == new, format!("neither the old content nor the new: {content:?}"))?;
    must(outcome.status != 0 || content == new, "status 0, and the update is lost")?;
    let said_changed = outcome.err.contains("was changed, but") || was_killed(outcome);
    must(outcome.status == 0 || content == old || said_changed, "it failed, and the file is changed")?;
    judge_next(place, &content)
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0 && place.read("data/f") == "one\n", "it was changed while another held the lock")?;
    place.release_kept();
    judge_next(place, "one\n")
}

fn judge_next(place: &Place, content: &str) -> Verdict {
    let is_there = place.path("data/f").exists();
    let mode = || fs::metadata(place.path("data/f")).map_or(0, |data| data.permissions().mode() & 0o777);
    must(content.is_empty() || !content.starts_with("one") || mode() == 0o640, format!("its mode is {:o}", mode()))?;
    let said = place.run_helper(["update", "--create", "data/f", "--", "sh", "-c", "cat; echo three"]);
    must(
        said.status == 0 && said.err.is_empty(),
        format!("the next update (of a file: {is_there}) ended so: {said:?}"),
    )?;
    let now = place.read("data/f");
    must(now == format!("{content}three\n"), format!("after the next update the content is {now:?}"))?;
    let names = place.list_names("data");
    must(names.iter().all(|name| ["f", "f.lock", "f~"].contains(&name.as_str())), format!("litter: {names:?}"))
}
