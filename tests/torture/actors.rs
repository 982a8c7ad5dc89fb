//! What an actor may do, and what it writes down of that.

use crate::checker;
use crate::driver::{self, Call};
use crate::faults;
use crate::walk::Slot;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// One thing, as the dice will have it.
pub(crate) fn play(slot: &mut Slot, turn: usize) {
    match slot.dice.roll(100) {
        0..18 => lock(slot),
        18..30 => flock(slot),
        30..38 => script(slot),
        38..42 => two(slot),
        42..56 => update(slot, turn),
        56..62 => read(slot, turn),
        62..72 => task(slot),
        72..74 => reset(slot),
        74..86 => number(slot),
        86..89 => clean(slot),
        89..93 => status(slot),
        93..96 => odd(slot),
        _ if slot.stage.clocks => at_another_time(slot, turn),
        _ => lock(slot),
    }
}

/// A lock's name; it is known by another in the history where it is in another state root.
struct Lock {
    name: String,
    root: &'static str,
}

impl Lock {
    fn pick(slot: &mut Slot) -> Self {
        let (roll, number) = (slot.dice.roll(100), slot.dice.roll(4096));
        let in_root = |name: String| Self { name, root: "locks" };
        match roll {
            0..50 => in_root(format!("h{}", number % 3)),
            // As long as a name may be.
            50..60 => in_root("l".repeat(128)),
            60..70 => in_root(faults::REMOVED[usize::try_from(number % 3).unwrap()].to_owned()),
            70..76 if slot.stage.mounts => Self { name: format!("f{}", number % 8), root: "full/locks" },
            76..82 if slot.stage.mounts => Self { name: format!("w{}", number % 2), root: "ro/locks" },
            _ => in_root(format!("n{number}")),
        }
    }

    /// In the history.
    fn id(&self) -> String {
        if self.root == "locks" { self.name.clone() } else { format!("{}:{}", self.root, self.name) }
    }

    fn file(&self, slot: &Slot) -> String {
        slot.place.path(self.root).join(format!("aba-{}.lock", self.name)).to_string_lossy().into_owned()
    }
}

/// A call of the helper.
fn helper<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(slot: &Slot, words: I) -> Command {
    let mut command = slot.place.program(&slot.place.helper);
    command.args(words);
    command
}

fn waits(slot: &mut Slot) -> (Vec<String>, bool) {
    let millis = slot.dice.roll(60);
    match slot.dice.roll(100) {
        0..35 => (Vec::new(), false),
        35..70 => (vec!["-w".to_owned()], true),
        _ => (vec!["-t".to_owned(), format!("0.{millis:03}")], true),
    }
}

/// The command that is inside, and says so.
fn hold(slot: &mut Slot, lock: &Lock, shared: bool) -> Vec<OsString> {
    hold_file(slot, lock, &lock.file(slot), shared)
}

/// The same, in a lock that is this file.
fn hold_file(slot: &mut Slot, lock: &Lock, file: &str, shared: bool) -> Vec<OsString> {
    let history = slot.place.path("history");
    let (mode, micros) = (if shared { "shared" } else { "exclusive" }, slot.dice.roll(1500).to_string());
    slot.place.act(&["hold", &history.to_string_lossy(), &slot.actor, &lock.id(), mode, file, &micros])
}

fn lock(slot: &mut Slot) {
    let (lock, (mut words, waits)) = (Lock::pick(slot), waits(slot));
    let shared = slot.dice.percent(25);
    if shared {
        words.push("-s".to_owned());
    }
    let mut all: Vec<OsString> = vec!["lock".into()];
    all.extend(words.into_iter().map(OsString::from));
    all.extend([OsString::from(&lock.name), "--".into()]);
    all.extend(hold(slot, &lock, shared));
    // Bytes that are no text.
    if slot.dice.percent(10) {
        all.push(OsStr::from_bytes(b"\xff\xfe \n'").to_owned());
    }
    let mut command = helper(slot, all);
    command.env("ABA_LOCK_DIR", slot.place.path(lock.root));
    contend(slot, command, &[&lock], waits, 75, &[]);
}

/// A call that wants locks: it is written down who wanted which, and who was refused.
fn contend(slot: &mut Slot, command: Command, locks: &[&Lock], waits: bool, refused: i32, others: &[i32]) {
    slot.note("ask lock");
    for lock in locks {
        slot.note(&format!("tries {}", lock.id()));
    }
    let said = slot.call(command, others);
    if let (Some(said), [lock], false) = (&said, locks, waits)
        && said.status == refused
    {
        slot.note(&format!("busy {}", lock.id()));
    }
    slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
}

/// A script with the library, and another in it that takes the same lock.
fn script(slot: &mut Slot) {
    let (lock, (words, waits)) = (Lock::pick(slot), waits(slot));
    let nested = r#"source "$LIBRARY"; aba_lock_operation "$NAME"; aba_unlock_operation "$NAME""#;
    let work = format!(
        "aba_lock_operation {} \"$NAME\"; {}\"$@\"",
        words.join(" "),
        if slot.dice.percent(30) { "bash -c \"$NESTED\"; " } else { "" },
    );
    let in_trap = work.replacen("aba_lock_operation", "aba_lock_operation --on-conflict return", 1);
    let in_trap = in_trap.replacen(';', " || exit 1;", 1);
    let work = match slot.dice.roll(100) {
        0..15 => format!("trap '{in_trap}' EXIT; exit {OF_TRAP}"),
        15..25 => format!("trap '{in_trap}' USR1; kill -s USR1 $$; exit {OF_TRAP}"),
        25..32 => format!("trap '{in_trap}; exit {OF_TRAP}' ERR; false"),
        32..50 => format!("trap 'exit 143' TERM; {work}"),
        _ => work,
    };
    let script = format!("source \"$LIBRARY\"; {work}");
    let mut command = slot.place.program("bash");
    command.arg("-c").arg(script).arg("script").args(hold(slot, &lock, false));
    command.env("LIBRARY", crate::LIBRARY).env("NESTED", nested).env("NAME", &lock.name);
    command.env("ABA_LOCK_DIR", slot.place.path(lock.root));
    contend(slot, command, &[&lock], waits, 1, &[OF_TRAP]);
}

/// The status of a script after its work in a trap.
const OF_TRAP: i32 = 3;

/// A script that locks a file of its own as with flock(1): over a command, or on a descriptor.
fn flock(slot: &mut Slot) {
    const OF_FCNTL: &str = "flocks/c";
    let by_descriptor = slot.dice.percent(40);
    // Who waits on a descriptor gets the file that is open there, also where that was removed.
    let is_removed = !by_descriptor && slot.dice.percent(65);
    let name = if is_removed { faults::REMOVED_FILE } else { *slot.dice.pick(&["flocks/a", "flocks/b", OF_FCNTL]) };
    let lock = Lock { name: name.to_owned(), root: "locks" };
    let millis = slot.dice.roll(60);
    let (wait, waits) = match slot.dice.roll(100) {
        0..40 => ("-n".to_owned(), false),
        40..80 => (String::new(), true),
        _ => (format!("-w 0.{millis:03}"), true),
    };
    // Those of fcntl(2) and those of flock(2) do not know each other.
    let fcntl = if lock.name == OF_FCNTL { "--fcntl" } else { "" };
    let shared = slot.dice.percent(25);
    let mode = if shared { "-s" } else { "-x" };
    let function = r#"flock() { "$ABA_LOCK_BIN" flock "$@"; }"#;
    let script = if by_descriptor {
        let release = if slot.dice.percent(50) { format!(" && flock {fcntl} -u 9") } else { String::new() };
        format!(r#"{function}; exec 9<>"$FILE"; flock {fcntl} {mode} {wait} 9 || exit; "$@"{release}"#)
    } else {
        let become_it = if slot.dice.percent(30) { "-F" } else { "" };
        format!(r#"{function}; flock {fcntl} {mode} {wait} {become_it} "$FILE" "$@""#)
    };
    let file = slot.place.path(&lock.name);
    let mut command = slot.place.program("bash");
    command.arg("-c").arg(script).arg("script").args(hold_file(slot, &lock, &file.to_string_lossy(), shared));
    command.env("FILE", file);
    contend(slot, command, &[&lock], waits, 1, &[]);
}

/// Two locks at once, all or none, inside both of them. Often the file of one is removed during the wait for the other.
fn two(slot: &mut Slot) {
    let removed = Lock { name: (*slot.dice.pick(&faults::REMOVED)).to_owned(), root: "locks" };
    let one = if slot.dice.percent(60) { removed } else { Lock::pick(slot) };
    let other = Lock { name: format!("h{}", slot.dice.roll(3)), root: "locks" };
    if one.root != other.root || one.name == other.name {
        return lock(slot);
    }
    let (words, _) = waits(slot);
    let (history, micros) = (slot.place.path("history"), slot.dice.roll(1500).to_string());
    let locks = [one.id(), one.file(slot), other.id(), other.file(slot)];
    let mut inside = vec!["hold-both", history.to_str().unwrap(), &slot.actor, &micros];
    inside.extend(locks.iter().map(String::as_str));
    let inside = slot.place.act(&inside);
    if slot.dice.percent(40) {
        let script = format!("source \"$LIBRARY\"; aba_lock_operation {} \"$ONE\" \"$OTHER\"; \"$@\"", words.join(" "));
        let mut command = slot.place.program("bash");
        command.arg("-c").arg(script).arg("script").args(inside);
        command.env("LIBRARY", crate::LIBRARY).env("ONE", &one.name).env("OTHER", &other.name);
        return contend(slot, command, &[&one, &other], true, 1, &[]);
    }
    let mut all: Vec<OsString> = vec!["lock".into()];
    all.extend(words.into_iter().map(OsString::from));
    all.extend([OsString::from(&one.name), OsString::from(&other.name), "--".into()]);
    all.extend(inside);
    let command = helper(slot, all);
    contend(slot, command, &[&one, &other], true, 75, &[]);
}

/// A file that many add to: another one from time to time, so that none grows long.
fn file(turn: usize) -> String {
    format!("data/f{}", turn / 40)
}

fn update(slot: &mut Slot, turn: usize) {
    let (file, token) = (file(turn), slot.actor.clone());
    let mut words = vec!["update", "--create"];
    let in_place = slot.dice.percent(25);
    let add = format!("echo {token}");
    let (cat, append) = (format!("cat; {add}"), format!("{add} >>\"$1\""));
    if in_place {
        words.extend(["--in-place", &file, "--", "sh", "-c", &append, "sh", "{}"]);
    } else {
        words.extend([&file, "--", "sh", "-c", &cat]);
    }
    let command = helper(slot, words);
    slot.note("ask update");
    slot.note(&format!("adds {file} {token}"));
    let said = slot.call(command, &[]);
    match &said {
        Some(said) if said.status == 0 => slot.note(&format!("added {file} {token}")),
        Some(_) => slot.note(&format!("refused {file} {token}")),
        None => {}
    }
    slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
}

/// Looks into the file, without any lock.
fn read(slot: &mut Slot, turn: usize) {
    let file = file(turn);
    slot.note(&format!("reads {file}"));
    let content = slot.place.read(&file);
    if !content.is_empty() && !content.ends_with('\n') {
        slot.stage.breaks(format!("{} read half a line of {file}", slot.actor));
    }
    slot.note(&format!("read {file} {} {}", content.lines().count(), checker::hash_of(content.lines())));
}

fn task(slot: &mut Slot) {
    let (task, how) = (format!("t{}", slot.dice.roll(3)), *slot.dice.pick(&["-qw", "-qw", "-s", "-p"]));
    let fate = *slot.dice.pick(&["0", "0", "0", "0", "0", "3", "die", "orphan"]);
    let micros = slot.dice.roll(3000).to_string();
    let history = slot.place.path("history");
    let mut words: Vec<OsString> = ["run-once", how, "-i", &task].map(OsString::from).into();
    if how != "-p" {
        words.push("--".into());
        words.extend(slot.place.act(&["task", &history.to_string_lossy(), &slot.actor, &task, fate, &micros]));
    }
    let command = helper(slot, words);
    slot.note("ask task");
    // 143: ended by a reset meanwhile.
    let said = slot.call(command, &[3, 137, 143]);
    if said.as_ref().is_some_and(|said| said.status == 0 && how == "-qw") {
        slot.note(&format!("finished {task}"));
    }
    slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
}

fn reset(slot: &mut Slot) {
    let task = format!("t{}", slot.dice.roll(3));
    let command = helper(slot, ["run-once", "-r", "-i", &task]);
    slot.note(&format!("forgets {task}"));
    slot.call(command, &[]);
    slot.note(&format!("forgot {task}"));
}

fn number(slot: &mut Slot) {
    let key = format!("d{}", slot.dice.roll(8));
    let of_pool = ["--pool", "p", "--path", &key];
    let range = ["--range", "1-12", "--probe", "none"];
    match slot.dice.roll(10) {
        0..5 => {
            let command = helper(slot, ["reserve"].iter().chain(&of_pool).chain(&range));
            slot.note(&format!("wants p {key}"));
            if let Some(said) = slot.call(command, &[])
                && said.status == 0
            {
                slot.note(&format!("keeps p {key} {}", said.out.trim()));
            }
        }
        5..7 => {
            let command = helper(slot, ["release"].iter().chain(&of_pool));
            slot.note(&format!("releases p {key}"));
            slot.call(command, &[]);
            slot.note(&format!("released p {key}"));
        }
        _ => {
            let (history, micros) = (slot.place.path("history"), slot.dice.roll(1500).to_string());
            let inside = slot.place.act(&["lease", &history.to_string_lossy(), &slot.actor, "p", &micros]);
            let mut words: Vec<OsString> =
                ["reserve"].iter().chain(&of_pool).chain(&range).map(OsString::from).collect();
            words.push("--".into());
            words.extend(inside);
            let command = helper(slot, words);
            slot.note("ask lease");
            let said = slot.call(command, &[]);
            slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
        }
    }
}

fn clean(slot: &mut Slot) {
    let command = helper(slot, ["clean", "-q"]);
    slot.call(command, &[]);
}

fn status(slot: &mut Slot) {
    let lock = Lock::pick(slot);
    let mut command = helper(slot, ["status", "-q", &lock.name]);
    command.env("ABA_LOCK_DIR", slot.place.path(lock.root));
    slot.note("ask status");
    if slot.call(command, &[]).is_some_and(|said| said.status == 1) {
        slot.note(&format!("free {}", lock.id()));
    }
}

/// What is no name is refused, whatever its bytes are.
fn odd(slot: &mut Slot) {
    let names = [OsStr::from_bytes(b"\xff\xfe").to_owned(), "n".repeat(129).into(), "../x".into(), "a\nb".into()];
    let name = slot.dice.pick(&names).clone();
    let words: Vec<OsString> = match slot.dice.roll(3) {
        0 => vec!["lock".into(), name.clone(), "--".into(), "true".into()],
        1 => vec!["run-once".into(), "-i".into(), name.clone(), "--".into(), "true".into()],
        _ => vec!["status".into(), name.clone()],
    };
    let command = helper(slot, words);
    // clap's words on bytes that are no text are its own.
    if let Some(said) = slot.call_odd(command)
        && said.status != 2
    {
        slot.stage.breaks(format!("{}: {} was not refused: {said:?}", slot.actor, name.display()));
    }
}

/// A lock or an update by one to whom the clock says another time.
fn at_another_time(slot: &mut Slot, turn: usize) {
    let away = *slot.dice.pick(&[-86_400, 86_400, -1_700_000_000, 3600, -1]);
    let (lock, (file, token)) =
        (Lock { name: format!("h{}", slot.dice.roll(3)), root: "locks" }, (file(turn), slot.actor.clone()));
    slot.count();
    if slot.dice.percent(60) {
        let mut words: Vec<OsString> = ["lock", "-w", &lock.name, "--"].map(OsString::from).into();
        words.extend(hold(slot, &lock, false));
        slot.note("ask lock");
        slot.note(&format!("tries {}", lock.id()));
        let ended = driver::run_at_another_time(&slot.place, &Call::new(words), away);
        finish(slot, ended);
    } else {
        let add = format!("cat; echo {token}");
        slot.note(&format!("adds {file} {token}"));
        let call = Call::new(["update", "--create", &file, "--", "sh", "-c", &add]);
        let ended = driver::run_at_another_time(&slot.place, &call, away);
        if matches!(ended, Ok((0, _))) {
            slot.note(&format!("added {file} {token}"));
        }
        finish(slot, ended);
    }
}

fn finish(slot: &Slot, ended: std::io::Result<(i32, String)>) {
    match ended {
        Ok((0, _)) => slot.note("done 0"),
        // Where a signal comes before the rack has heard of it, the question for the time fails with EINTR, as it never does
        // elsewhere, and to the standard library a clock that does not work is the end.
        Ok((134, err)) if err.contains("kind: Interrupted") => slot.note("doom"),
        other => slot.stage.breaks(format!("{}, at another time, ended so: {other:?}", slot.actor)),
    }
}
