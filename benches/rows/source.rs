//! Part `source`: the cost of a lock for a script, with the shell library and with flock(1).
//!
//! Each script is a file. The library is in a prefix with the helper, as it is installed. flock(1) locks a file of its own with the
//! usual lines, among them the one that reports the conflict: the library does that, too.

use super::holder::SharedDescriptor;
use crate::call::Call;
use crate::comparison::Comparison;
use crate::pinned::Pinned;
use crate::row::Row;
use crate::scene::{Installation, Root, Scene};

const PART: &str = "source";

/// Number of times for which a script acquires and releases its lock. With the builtin, fewer would mostly measure the start of bash.
const TIMES: u32 = 50;
const TIMES_WITH_BUILTIN: u32 = 1000;

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let _pinned = Pinned::new();
    let bare = root.script("bare", ":");
    let sourced = root.script("sourced", &write_source(&scene.installed));
    let ours = root.script("ours", &write_lock(&scene.installed));
    let other = scene.compared.as_ref().map(|other| (other.name, root.script("other", &write_lock(other))));
    let init = root.script("init", "eval \"$(\"$HELPER\" init bash)\" || exit\naba_lock_operation bench");
    let idiom = write_idiom(&root);
    let theirs = root.script("theirs", &idiom);
    let released = root.script("released", &format!("{}\naba_unlock_operation", write_lock(&scene.installed)));
    let theirs_released = root.script("theirs-released", &format!("{idiom}\nflock -u 200"));

    let mut take = Comparison::new(PART).side("aba-lock", || ours.time()).side("flock(1)", || theirs.time());
    if let Some((name, other)) = &other {
        take = take.side(name, || other.time());
    }
    let mut rows = vec![
        compare(&sourced, "bash alone", &bare).run("a script that sources the library", scene.rounds),
        take.run("a script that takes a lock", scene.rounds),
        compare(&use_utf8(&ours), "flock(1)", &use_utf8(&theirs))
            .run("a script that takes a lock, in C.UTF-8", scene.rounds),
        compare(&init, "flock(1)", &theirs)
            .run("a script that takes a lock, after eval \"$(aba-lock init bash)\"", scene.rounds),
        compare(&released, "flock(1)", &theirs_released).run("a script that takes and releases a lock", scene.rounds),
        measure_loop(&root, false),
    ];
    if scene.has_builtin {
        assert_builtin(&root);
        let ours = ours.clone().env("ABA_LOCK_BUILTIN", "yes");
        rows.push(
            compare(&ours, "flock(1)", &theirs).run("a script that takes a lock, with the builtin", scene.rounds),
        );
        rows.push(measure_loop(&root, true));
    } else {
        eprintln!("aba-lock-bench: the builtin for bash is not measured: give it with --builtin FILE");
    }
    let held = SharedDescriptor::open(&file);
    held.lock();
    let nested = root.script("nested", &write_lock(&scene.installed)).env("ABA_LOCK_FDS", "200");
    rows.push(
        compare(&nested, "bash alone", &bare).run("a nested script that takes the lock of its parent", scene.rounds),
    );
    rows
}

fn compare<'a>(ours: &'a Call, name: &'static str, theirs: &'a Call) -> Comparison<'a> {
    Comparison::new(PART).side("aba-lock", || ours.time()).side(name, || theirs.time())
}

/// Measures a script that acquires and releases its lock several times.
fn measure_loop(root: &Root, with_builtin: bool) -> Row {
    let (name, count, rounds) = if with_builtin {
        ("with the builtin, a script takes and releases a lock", TIMES_WITH_BUILTIN, root.scene.rounds_of_slowest())
    } else {
        ("a script takes and releases a lock", TIMES, root.scene.rounds_of_slow())
    };
    let repeat = |body: &str| format!("for ((i = 0; i < {count}; i++)); do\n{body}\ndone");
    let source = write_source(&root.scene.installed);
    let mut ours =
        root.script("loop", &format!("{source}\n{}", repeat("aba_lock_operation bench\naba_unlock_operation")));
    let theirs = root.script("loop-of-flock", &repeat(&format!("{}\nflock -u 200", write_idiom(root))));
    if with_builtin {
        ours = ours.env("ABA_LOCK_BUILTIN", "yes");
    }
    compare(&ours, "flock(1)", &theirs).run(name, rounds).with_size(count, "times")
}

fn assert_builtin(root: &Root) {
    let script = format!("{}\ntype -t __aba_builtin", write_source(&root.scene.installed));
    let found = root.script("with-builtin", &script).env("ABA_LOCK_BUILTIN", "yes").output();
    assert_eq!(found, "builtin\n", "bash did not load the builtin");
}

fn use_utf8(call: &Call) -> Call {
    call.clone().env("LC_ALL", "C.UTF-8")
}

fn write_source(installed: &Installation) -> String {
    format!("source {} || exit", installed.library.display())
}

fn write_lock(installed: &Installation) -> String {
    format!("{}\naba_lock_operation bench", write_source(installed))
}

fn write_idiom(root: &Root) -> String {
    format!(
        "exec 200>{}\nflock -n 200 || {{\n    echo 'already running'\n    exit 1\n}}",
        root.path.join("idiom.lock").display()
    )
}
