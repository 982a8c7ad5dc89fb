//! The actions of actors that use policies: slots, a maximum time, locks that end with a script, waits that acquire nothing, and texts
//! as names. `actions` calls [`play`].

use crate::contention::{ChosenLock, Contest, choose_wait, contend, helper};
use crate::environment;
use crate::slot::Slot;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;

/// The maximum number of daemons that live until the end of a walk.
const MAX_DAEMONS: usize = 6;

/// The time between SIGTERM and SIGKILL in milliseconds.
const GRACE: u64 = 8;

/// Performs a random action.
pub(crate) fn play(slot: &mut Slot) {
    match slot.random.below(100) {
        0..40 => use_slot(slot),
        40..56 => stay_too_long(slot),
        56..76 => bind_to_script(slot),
        76..88 => wait_until_free(slot),
        _ => lock_text(slot),
    }
}

/// A command that notes that it holds the lock, and sometimes what `status` says of it.
fn hold(slot: &mut Slot, lock: &ChosenLock, file: &str, mode: &str) -> Vec<OsString> {
    let (history, micros) = (slot.place.path("history"), slot.random.below(1500).to_string());
    let what = if slot.random.chance(6) { "hold-and-look" } else { "hold" };
    slot.place.payload(&[what, &history.to_string_lossy(), &slot.actor, &lock.id(), mode, file, &micros])
}

/// Returns a call of the helper, or of a script that locks the name and runs the command.
pub(crate) fn lock_and_run(
    slot: &mut Slot,
    words: Vec<String>,
    name: &[&str],
    command: Vec<OsString>,
) -> (Command, i32) {
    if slot.random.chance(30) {
        let script = r#"source "$LIBRARY"; read -ra words <<<"$WORDS"; aba_lock_operation "${words[@]}" "${@:1:COUNT}"
            "${@:COUNT+1}""#;
        let mut call = slot.place.program("bash");
        call.arg("-c").arg(script).arg("script").args(name).args(command);
        // An empty array is unset in old versions of bash under some options, but not here.
        call.env("LIBRARY", environment::LIBRARY).env("WORDS", words.join(" ")).env("COUNT", name.len().to_string());
        return (call, 1);
    }
    let mut all: Vec<OsString> = vec!["lock".into()];
    all.extend(words.into_iter().map(OsString::from));
    all.extend(name.iter().map(OsString::from));
    all.push("--".into());
    all.extend(command);
    (helper(slot, all), 75)
}

/// Locks a slot. Some callers want the whole lock, share it, or have another number of slots.
fn use_slot(slot: &mut Slot) {
    let usual = 1 + u32::try_from(slot.random.below(3)).unwrap();
    let lock = ChosenLock { name: format!("s{usual}"), root: "locks" };
    let (mut words, waits) = choose_wait(slot);
    let (mode, slots) = match slot.random.below(100) {
        0..82 => ("slot", Some(usual)),
        82..88 => ("slot", Some(usual + 1)),
        88..94 => ("exclusive", None),
        _ => ("shared", None),
    };
    match slots {
        Some(number) => words.extend(["--slots".to_owned(), number.to_string()]),
        None if mode == "shared" => words.push("-s".to_owned()),
        None => {}
    }
    if slot.random.chance(10) {
        words.extend(["--max-time", "1h"].map(str::to_owned));
    }
    let mode = slots.map_or(mode.to_owned(), |number| format!("slot:{number}"));
    let file = lock.file(slot);
    let command = hold(slot, &lock, &file, &mode);
    let (command, refused) = lock_and_run(slot, words, &[&lock.name], command);
    contend(slot, command, &Contest::new(&[&lock], waits, refused).with_slots(slots));
}

/// Holds a lock longer than its maximum time, with a child that ignores SIGTERM and left the session.
fn stay_too_long(slot: &mut Slot) {
    let lock = ChosenLock { name: format!("m{}", slot.random.below(2)), root: "locks" };
    let (mut words, waits) = choose_wait(slot);
    let (mode, slots) = match slot.random.below(100) {
        0..50 => ("exclusive", None),
        50..75 => ("shared", None),
        _ => ("slot:2", Some(2)),
    };
    match slots {
        Some(number) => words.extend(["--slots".to_owned(), number.to_string()]),
        None if mode == "shared" => words.push("-s".to_owned()),
        None => {}
    }
    let limit = 2 + slot.random.below(25);
    words.extend(["--max-time".to_owned(), format!("0.{limit:03}"), format!("--grace=0.{GRACE:03}")]);
    let history = slot.place.path("history");
    let command = slot.place.payload(&[
        "overstay-walk",
        &history.to_string_lossy(),
        &slot.actor,
        &lock.id(),
        mode,
        &lock.file(slot),
    ]);
    let (command, refused) = lock_and_run(slot, words, &[&lock.name], command);
    slot.note(&format!("limits {}", limit * 1000));
    contend(slot, command, &Contest::new(&[&lock], waits, refused).or_status(&[137, 143]).with_slots(slots));
}

/// Runs a script whose lock no child inherits. Some leave a daemon, and some lose their lock because its holder is killed.
fn bind_to_script(slot: &mut Slot) {
    let number = slot.random.below(4096);
    let name = if slot.random.chance(70) { format!("h{}", number % 3) } else { format!("n{number}") };
    let lock = ChosenLock { name, root: "locks" };
    let (words, waits) = choose_wait(slot);
    let daemon = if slot.random.chance(10) && slot.stage.daemons.fetch_add(1, Ordering::SeqCst) < MAX_DAEMONS {
        r#""$TORTURE" payload stay-until "$OVER" "$PLACE" >/dev/null 2>&1 & "#
    } else {
        ""
    };
    let micros = slot.random.below(1500);
    let end = match slot.random.below(100) {
        0..15 => {
            r#"; "$TORTURE" payload kill-holder "$FILE" || exit 0
            for ((i = 0; i < 1500; i++)); do [[ -z ${told-} ]] || exit 0; sleep 0.01; done
            echo "0 $ACTOR untold $NAME" >>"$HISTORY""#
        }
        15..30 => "; kill -9 $$",
        30..50 => r#"; aba_unlock_operation "$NAME" || exit"#,
        _ => "",
    };
    let trap = if slot.random.chance(50) { "trap 'told=yes' TERM; " } else { "" };
    let script = format!(
        r#"source "$LIBRARY"; {trap}aba_lock_operation --no-inherit {} "$NAME"
        echo "0 $ACTOR enter $NAME exclusive 0" >>"$HISTORY"
        {daemon}"$TORTURE" payload look-for "$HISTORY" "$ACTOR" "$NAME" "$FILE" {micros}
        echo "0 $ACTOR leave $NAME" >>"$HISTORY"{end}"#,
        words.join(" ")
    );
    let mut command = slot.place.program("bash");
    command.arg("-c").arg(script).env("LIBRARY", environment::LIBRARY).env("NAME", &lock.name);
    command.env("ACTOR", &slot.actor).env("HISTORY", slot.place.path("history")).env("FILE", lock.file(slot));
    command.env("OVER", slot.place.path("over")).env("PLACE", slot.place.path("data"));
    contend(slot, command, &Contest::new(&[&lock], waits, 1).or_status(&[137, 143]));
}

/// Waits until locks are free, and acquires none.
fn wait_until_free(slot: &mut Slot) {
    let number = slot.random.below(3);
    let mut names = vec![(*slot.random.choose(&["h", "s", "m"])).to_owned() + &number.to_string()];
    if slot.random.chance(40) {
        names.push(format!("h{}", (number + 1) % 3));
    }
    let (any, shared) = (slot.random.chance(30), slot.random.chance(20));
    let millis = slot.random.below(90);
    let mut words = vec!["wait".to_owned(), "-t".to_owned(), format!("0.{millis:03}")];
    words.extend(any.then(|| "--any".to_owned()));
    words.extend(shared.then(|| "--shared".to_owned()));
    words.extend(names.iter().cloned());
    let command = helper(slot, words);
    slot.note("ask wait");
    let Some(said) = slot.call(command, &[]).filter(|said| said.status == 0) else { return };
    for name in names.iter().filter(|name| !any || said.out.trim_end() == **name) {
        slot.note(&format!("free {name}{}", if shared { " shared" } else { "" }));
    }
    if any && !names.iter().any(|name| said.out == format!("{name}\n")) {
        slot.stage.report(format!("{} waited for any of {names:?}, and it said {said:?}", slot.actor));
    }
}

/// Locks a text. Some callers give the name that is derived from it.
fn lock_text(slot: &mut Slot) {
    let text = format!("k{}?a='b'&c", slot.random.below(2));
    let path = PathBuf::from(slot.place.run_helper(["path", "--key", &text]).out.trim_end());
    let stem = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = stem.trim_start_matches("aba-").to_owned();
    let lock = ChosenLock { name: text.clone(), root: "locks" };
    let (mut words, waits) = choose_wait(slot);
    let shared = slot.random.chance(20);
    if shared {
        words.push("-s".to_owned());
    }
    let mode = if shared { "shared" } else { "exclusive" };
    let command = hold(slot, &lock, &path.to_string_lossy(), mode);
    // A refusal names what the caller gave.
    let by_name = waits && slot.random.chance(30);
    let words_for_lock = if by_name { vec![name.as_str()] } else { vec!["--key", text.as_str()] };
    let (command, refused) = lock_and_run(slot, words, &words_for_lock, command);
    contend(slot, command, &Contest::new(&[&lock], waits, refused));
}
