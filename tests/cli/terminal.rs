//! Output on a terminal: the line of a waiter, Ctrl-C, `list --watch` and colours.

use crate::call::Call;
use crate::process::{interrupt_group, is_alive, is_watching, wait_until};
use crate::scene::{HELPER, Scene};

#[test]
fn the_line_of_a_waiter_names_the_current_holder_and_is_erased() {
    let scene = Scene::new();
    // A script and its child hold the lock. When the script is killed, the child is the holder.
    let mut holder = scene.aba(["lock", "a", "--", "bash", "-c", "{ read _; } <&0 & echo $!; wait"]).hold();
    let child: u32 = holder.first_line.parse().unwrap();

    let (first, second) = (scene.path("first"), scene.path("second"));
    let rules =
        format!("held by pid {} (={}|held by pid {child} (={}", holder.pid(), first.display(), second.display());
    let waiter = scene.on_terminal(&rules).args([HELPER, "lock", "-w", "a", "--", "echo", "mine"]).out("mine").start();
    wait_until("the line names the holder", || first.exists());
    scene.wait_for_waiter("a");
    holder.signal(9);
    holder.wait();
    wait_until("the line names the child", || second.exists());
    drop(holder);
    let said = waiter.finish().out;
    wait_until("the child has ended", || !is_alive(child));
    // The line is redrawn in place and erased before the output of the command.
    assert!(said.contains("s for a, held by pid "), "{said:?}");
    assert!(said.ends_with("\r\x1b[Kmine\r\n"), "{said:?}");
    assert_eq!(said.matches('\n').count(), 1, "{said:?}");
}

#[test]
fn the_line_of_a_waiter_is_cut_to_the_width_of_the_terminal() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--who", &"very long ".repeat(30), "a"]);
    let seen = scene.path("seen");
    let rules = format!("s for a, held={}", seen.display());
    let narrow = "stty cols 40; exec \"$HELPER\" lock -w a -- true";
    let waiter = scene.on_terminal(&rules).args(["sh", "-c", narrow]).out("s for a, held").start();
    wait_until("the line is shown", || seen.exists());
    holder.release();
    let said = waiter.finish().out;
    for line in said.split('\r') {
        let text = line.split('\x1b').next().unwrap();
        assert!(text.chars().count() < 40, "{text:?}");
    }
}

#[test]
fn a_wait_for_a_task_shows_the_last_line_of_its_log() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("for n in one two; do printf '%s\\e[31m\\n' $n; read _ <{gate}; done");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let pid = scene.task_pid("a");
    let (first, second) = (scene.path("first"), scene.path("second"));
    let rules = format!("s: one={}|s: two={}", first.display(), second.display());
    let command = scene.on_terminal(&rules).args([HELPER, "run-once", "-wi", "a"]);
    let waiter = command.out(format!("| Waiting for task: a (PID: {pid}) ")).start();
    wait_until("the first line is shown", || first.exists());
    gate.open();
    wait_until("the second line is shown", || second.exists());
    gate.open();
    let said = waiter.finish().out;
    assert!(said.contains("\r/ Waiting"), "it turns: {said:?}");
    // Control characters of the task are removed, and the line is erased.
    assert!(!said.contains("\x1b[31m"), "{said:?}");
    assert!(said.ends_with("\r\x1b[K") && !said.contains('\n'), "{said:?}");
}

#[test]
fn ctrl_c_ends_the_wait_and_the_script_but_not_the_task() {
    use std::os::unix::process::CommandExt;
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let [bash, option, task] = gate.task(0);
    let mut command = scene.program("bash");
    command.args(["-c", "\"$HELPER\" run-once -wi a -- \"$@\"; echo after", "bash", &bash, &option, &task]);
    command.process_group(0);
    let call = Call::new(command).status(130).out("begun").err("task a continues in the background (pid ").start();
    wait_until("it runs", || scene.task_text("a", "log.out") == "begun\n");
    let pid = scene.task_pid("a");
    wait_until("it is followed", || a_child_watches(call.pid()));
    interrupt_group(call.pid());
    let said = call.finish();
    assert!(!said.out.contains("after"), "the script went on: {}", said.out);
    assert!(said.err.contains("hint: stop it with `aba-lock run-once -r -i a`"), "{}", said.err);
    assert!(is_alive(pid));
    gate.open();
    scene.once(["-qwi", "a"]).run();
}

/// Returns true if a child of `pid` watches a directory.
fn a_child_watches(pid: u32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| is_watching(child.parse().unwrap()))
}

/// The sequences that begin and end the use of the alternate screen.
const SCREEN: [&str; 2] = ["\x1b[?1049h", "\x1b[?1049l"];

fn watch(scene: &Scene, rules: &str) -> Call {
    let sized = "stty cols 100 rows 8; exec \"$HELPER\" list --watch";
    scene.on_terminal(rules).env("TERM", "xterm").args(["sh", "-c", sized]).out(SCREEN[0]).out(SCREEN[1])
}

#[test]
fn watch_shows_changes_and_q_restores_the_terminal() {
    let scene = Scene::new();
    for name in ["b", "c", "d", "e", "f", "g"] {
        scene.aba(["lock", name, "--", "true"]).run();
    }
    let holder = scene.holder("a");
    let waiter = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    let seen = scene.path("seen");
    let rules = format!("1 held, 1 waiting, 0 running={}|0 held, 0 waiting> |g     free>q", seen.display());
    let watching = watch(&scene, &rules).start();
    wait_until("the holder is shown", || seen.exists());
    holder.release();
    waiter.finish();
    let said = watching.finish().out;
    assert!(said.contains("    1. waits: pid "), "{said:?}");
    assert!(said.contains("\u{2026} 2 more"), "what does not fit is counted: {said:?}");
    assert!(said.ends_with(&format!("\x1b[?25h{}", SCREEN[1])), "{said:?}");
}

#[test]
fn watch_restores_the_terminal_on_ctrl_c() {
    let scene = Scene::new();
    // Python exits with -2 (254) if the process died of signal 2.
    let said = watch(&scene, "no locks>\u{3}").status(254).run().out;
    assert!(said.ends_with(SCREEN[1]), "{said:?}");
    scene
        .aba(["list", "--watch"])
        .status(2)
        .err("list: --watch needs a terminal, and standard output is not a terminal")
        .run();
}

#[test]
fn all_keys_that_arrive_together_are_handled() {
    let scene = Scene::new();
    watch(&scene, "no locks>jq").run();
    watch(&scene, "no locks>\u{1b}[Aq").run();
    watch(&scene, "no locks>\u{1b}[1;5Bkq").run();
    watch(&scene, "no locks>\u{1b}q").run();
    for number in 1..=20 {
        scene.aba(["lock", &format!("a{number:02}"), "--", "true"]).run();
    }
    // The screen has room for five rows. The others are counted.
    let down = "\u{1b}[B\u{1b}OB\u{1b}[Bj";
    let said = watch(&scene, &format!("\u{2026} 15 more>{down}|\u{2026} 11 more>\u{1b}[A\u{1b}[Ak|\u{2026} 14 more>q"));
    said.run();
}

#[test]
fn a_key_sequence_that_arrives_in_pieces_is_one_key() {
    let scene = Scene::new();
    for number in 1..=20 {
        scene.aba(["lock", &format!("a{number:02}"), "--", "true"]).run();
    }
    // More input than one read, so that it is cut anywhere.
    let rules = format!("\u{2026} 15 more>{}{}q", "\u{1b}[A".repeat(400), "\u{1b}[B".repeat(3));
    let said = watch(&scene, &rules).run().out;
    assert!(said.contains("\u{2026} 12 more"), "{said:?}");
}

#[test]
fn all_commands_use_colours_under_the_same_conditions() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    // The variables, and whether the output has colours on a terminal and in a pipe.
    let rules = [
        ("TERM=xterm", true, false),
        ("TERM=", true, false),
        ("-u TERM", false, false),
        ("TERM=dumb", false, false),
        ("TERM=xterm NO_COLOR=1", false, false),
        ("TERM=xterm NO_COLOR=", true, false),
        ("TERM=xterm CLICOLOR=0", false, false),
        ("TERM=dumb CLICOLOR=1", true, false),
        ("-u TERM CI=1", true, false),
        ("-u TERM CLICOLOR_FORCE=1", true, true),
        ("TERM=xterm CLICOLOR_FORCE=", true, false),
        ("TERM=xterm CLICOLOR_FORCE=1 NO_COLOR=1", false, false),
    ];
    let shown = |on_terminal: bool, set: &str, command: &str| {
        let line = format!("env -u NO_COLOR -u CLICOLOR -u CLICOLOR_FORCE -u CI {set} \"$HELPER\" {command} 2>&1; :");
        let call = if on_terminal { scene.on_terminal("never=/dev/null").arg("sh") } else { scene.call("sh") };
        call.args(["-c", &line]).out("").run().out
    };
    for command in ["list", "doctor", "--help", "flock --help"] {
        for (set, on_terminal, in_pipe) in rules {
            for (is_terminal, wanted) in [(true, on_terminal), (false, in_pipe)] {
                let text = shown(is_terminal, set, command);
                assert_eq!(text.contains("\x1b["), wanted, "{command} with {set}, terminal: {is_terminal}: {text:?}");
            }
        }
    }
}
