//! What is seen on a terminal while waiting.

use crate::scene::{Call, HELPER, Holder, Scene, is_alive, until};

/// Runs the helper on a terminal, shows each new state of its screen's text to the rules in `argv`, and prints all of
/// it at the end. A rule is a text to wait for, and a file to make when it was seen.
const TERMINAL: &str = r#"
import os, pty, select, sys, time
rules, command = sys.argv[1].split("|"), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
seen, end = b"", time.time() + 60
while time.time() < end:
    if rules and rules[0].split("=")[0].encode() in seen:
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
