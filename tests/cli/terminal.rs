//! What is seen on a terminal while waiting, and what Ctrl-C does.

use crate::scene::{Call, HELPER, Holder, Scene, is_alive, until, watches};

/// Runs the helper on a terminal, shows each new state of its screen's text to the rules in `argv`, and prints all of
/// it at the end. A rule is a text to wait for, and a file to make when it was seen, or behind `>` a key to press.
pub(crate) const TERMINAL: &str = r#"
import os, pty, select, sys, time
rules, command = sys.argv[1].split("|"), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
seen, end = b"", time.time() + 60
while time.time() < end:
    if rules and ">" in rules[0] and rules[0].split(">")[0].encode() in seen:
        os.write(terminal, rules.pop(0).split(">")[1].encode())
    elif rules and rules[0].split("=")[0].encode() in seen:
        open(rules.pop(0).split("=")[1], "w").close()
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            more = os.read(terminal, 4096)
        except OSError:
            break
        if not more:
            break
        seen += more
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_line_shows_who_has_it_now_and_goes_when_the_wait_is_over() {
    let scene = Scene::new();
    // A script with a child that inherits the lock: when the script is killed, the holder is another.
    let mut command = scene.program(HELPER);
    command.args(["lock", "a", "--", "bash", "-c", "{ read _; } <&0 & echo $!; wait"]);
    let mut holder = Holder::start(command);
    let child: u32 = holder.said.parse().unwrap();

    let (first, second) = (scene.path("first"), scene.path("second"));
    let rules =
        format!("held by pid {} (={}|held by pid {child} (={}", holder.pid(), first.display(), second.display());
    let mut command = scene.program("python3");
    command.args(["-c", TERMINAL, &rules, HELPER, "lock", "-w", "a", "--", "echo", "mine"]);
    let waiter = Call::new(command).out("mine").start();
    until("the line names the holder", || first.exists());
    scene.until_waited_for("a");
    holder.signal(9);
    holder.wait();
    until("the line names the child", || second.exists());
    drop(holder);
    let said = waiter.finish().out;
    assert!(!is_alive(child));
    // Drawn over itself, never a second line, and nothing left of it in front of what the command prints.
    assert!(said.contains("s for a, held by pid "), "{said:?}");
    assert!(said.ends_with("\r\x1b[Kmine\r\n"), "{said:?}");
    assert_eq!(said.matches('\n').count(), 1, "{said:?}");
}

#[test]
fn a_line_that_is_longer_than_the_terminal_is_cut() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--who", &"very long ".repeat(30), "a"]);
    let seen = scene.path("seen");
    let mut command = scene.program("python3");
    let rules = format!("s for a, held={}", seen.display());
    let narrow = "stty cols 40; exec \"$HELPER\" lock -w a -- true";
    command.args(["-c", TERMINAL, &rules, "sh", "-c", narrow]);
    let waiter = Call::new(command).out("s for a, held").start();
    until("the line is shown", || seen.exists());
    holder.let_go();
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
    let script = format!("for n in one two; do printf '%s\\e[31m\\n' $n; read _ <'{}'; done", gate.path.display());
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let pid = scene.task_pid("a");
    let (first, second) = (scene.path("first"), scene.path("second"));
    let rules = format!("s: one={}|s: two={}", first.display(), second.display());
    let mut command = scene.program("python3");
    command.args(["-c", TERMINAL, &rules, HELPER, "run-once", "-wi", "a"]);
    let waiter = Call::new(command).out(format!("| Waiting for task: a (PID: {pid}) ")).start();
    until("the first line is shown", || first.exists());
    gate.open();
    until("the second line is shown", || second.exists());
    gate.open();
    let said = waiter.finish().out;
    assert!(said.contains("\r/ Waiting"), "it turns: {said:?}");
    // What the task chose is not to steer the terminal; and nothing of the line is left.
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
    let call = Call::new(command).status(130).out("begun").err("task a goes on in the background (pid ").start();
    until("it runs", || scene.task_text("a", "log.out") == "begun\n");
    let pid = scene.task_pid("a");
    until("it is followed", || a_child_watches(call.pid()));
    // As a terminal does: to the whole group.
    let group = format!("-{}", call.pid());
    assert!(std::process::Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    let said = call.finish();
    assert!(!said.out.contains("after"), "the script went on: {}", said.out);
    assert!(said.err.contains("hint: end it with `aba-lock run-once -r -i a`"), "{}", said.err);
    assert!(is_alive(pid));
    gate.open();
    scene.once(["-qwi", "a"]).run();
}

/// Whether a child of `pid` watches a directory.
fn a_child_watches(pid: u32) -> bool {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| watches(child.parse().unwrap()))
}

/// Begins to use the alternate screen, and gives the terminal back.
const SCREEN: [&str; 2] = ["\x1b[?1049h", "\x1b[?1049l"];

fn watch(scene: &Scene, rules: &str) -> Call {
    let mut command = scene.program("python3");
    let sized = "stty cols 100 rows 8; exec \"$HELPER\" list --watch";
    command.env("TERM", "xterm").args(["-c", TERMINAL, rules, "sh", "-c", sized]);
    Call::new(command).out(SCREEN[0]).out(SCREEN[1])
}

#[test]
fn watching_shows_what_changes_and_q_gives_the_terminal_back() {
    let scene = Scene::new();
    for name in ["b", "c", "d", "e", "f", "g"] {
        scene.aba(["lock", name, "--", "true"]).run();
    }
    let holder = scene.holder("a");
    let waiter = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    scene.until_waited_for("a");
    let seen = scene.path("seen");
    let rules = format!("1 held, 1 waiting, 0 running={}|0 held, 0 waiting> |g     free>q", seen.display());
    let watching = watch(&scene, &rules).start();
    until("the holder is shown", || seen.exists());
    holder.let_go();
    waiter.finish();
    let said = watching.finish().out;
    assert!(said.contains("    1. waits: pid "), "{said:?}");
    assert!(said.contains("\u{2026} 2 more"), "what does not fit is counted: {said:?}");
    assert!(said.ends_with(&format!("\x1b[?25h{}", SCREEN[1])), "{said:?}");
}

#[test]
fn watching_gives_the_terminal_back_also_when_it_is_interrupted() {
    let scene = Scene::new();
    // Python says -2 of one that died of signal 2.
    let said = watch(&scene, "no locks>\u{3}").status(254).run().out;
    assert!(said.ends_with(SCREEN[1]), "{said:?}");
    scene.aba(["list", "--watch"]).status(2).err("--watch draws on a terminal, and standard output is none").run();
}

#[test]
fn keys_that_come_together_are_all_seen_to() {
    let scene = Scene::new();
    watch(&scene, "no locks>jq").run();
    watch(&scene, "no locks>\u{1b}[Aq").run();
    watch(&scene, "no locks>\u{1b}[1;5Bkq").run();
    watch(&scene, "no locks>\u{1b}q").run();
    for number in 1..=20 {
        scene.aba(["lock", &format!("a{number:02}"), "--", "true"]).run();
    }
    // Five lines of the table are shown, and what does not fit is counted.
    let down = "\u{1b}[B\u{1b}OB\u{1b}[Bj";
    let said = watch(&scene, &format!("\u{2026} 15 more>{down}|\u{2026} 11 more>\u{1b}[A\u{1b}[Ak|\u{2026} 14 more>q"));
    said.run();
}

#[test]
fn a_key_that_comes_in_pieces_is_one() {
    let scene = Scene::new();
    for number in 1..=20 {
        scene.aba(["lock", &format!("a{number:02}"), "--", "true"]).run();
    }
    // More than is read at once: the pieces are cut anywhere.
    let rules = format!("\u{2026} 15 more>{}{}q", "\u{1b}[A".repeat(400), "\u{1b}[B".repeat(3));
    let said = watch(&scene, &rules).run().out;
    assert!(said.contains("\u{2026} 12 more"), "{said:?}");
}

#[test]
fn all_commands_follow_one_rule_about_colours() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    // True if output has colours: on a terminal, and in a pipe.
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
        let mut call = scene.program(if on_terminal { "python3" } else { "sh" });
        if on_terminal {
            call.args(["-c", TERMINAL, "never=/dev/null", "sh"]);
        }
        call.args(["-c", &line]);
        Call::new(call).out("").run().out
    };
    for command in ["list", "doctor", "--help", "flock --help", "list --wrong"] {
        for (set, on_terminal, in_pipe) in rules {
            for (is_terminal, wanted) in [(true, on_terminal), (false, in_pipe)] {
                let text = shown(is_terminal, set, command);
                assert_eq!(text.contains("\x1b["), wanted, "{command} with {set}, terminal: {is_terminal}: {text:?}");
            }
        }
    }
}
