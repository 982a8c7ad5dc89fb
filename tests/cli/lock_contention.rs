//! `lock` called by many contenders that are killed at any time, while another process removes free lock files.

use crate::process::{PATIENCE, is_locked, wait_until};
use crate::random::Random;
use crate::scene::{HELPER, LIBRARY, Scene};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The number of acquisitions. The random walks of the torture tests make more.
const ACQUISITIONS: usize = 3000;

/// The critical section of each contender. The witness is a lock of flock(1) on another file. The counter is read and written
/// without any protection.
///
/// If a contender is killed, the kernel may release its witness after its lock. A dead contender does not increase the counter,
/// but a living one does so before it leaves the critical section: only a changed counter is a violation.
const INSIDE: &str = r#"
    bump() {
        read -r count <counter
        { printf '%08d\n' $((10#$count + 1)) >&7; } 7<>counter
    }
    inside() {
        read -r found <counter
        if ! flock -n 9; then
            flock 9
            read -r count <counter
            [[ $count == "$found" ]] || echo "$$ met another inside" >>violations
        fi
        bump
        echo >>entries
        bump
        flock -u 9
    }
    exec 9<>witness
"#;

/// A contender that uses the shell library.
const SCRIPT: &str = r#"
    source "$LIBRARY" || echo "no library" >>violations
    until [[ -e stop ]]; do
        aba_lock_operation -qw fire
        echo >>by-script
        inside
        aba_unlock_operation fire
    done
"#;

/// A contender that runs commands under the lock.
const COMMAND: &str = r#"
    export -f inside bump
    until [[ -e stop ]]; do
        "$HELPER" lock -qw fire -- bash -c inside
    done
"#;

/// Removes the lock file whenever it is free: under its lock, and only if the name still leads to it.
const REMOVER: &str = r#"
    file=$ABA_LOCK_DIR/aba-fire.lock
    until [[ -e stop ]]; do
        [[ -e $file ]] || continue
        exec 8<>"$file"
        flock 8
        if [[ /dev/fd/8 -ef $file ]]; then
            rm -f "$file"
            echo >>removals
        fi
        exec 8>&-
    done
"#;

/// A process that is killed at the end of the test, even if an assertion fails.
struct Contender(Child);

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_contender(scene: &Scene, script: &str) -> Contender {
    let mut command: Command = scene.program("bash");
    command.arg("-c").arg(format!("{INSIDE}{script}")).current_dir(scene.path(""));
    command.env("LIBRARY", LIBRARY).env("ABA_LOCK_BIN", helper_path());
    command.env("HELPER", helper_path());
    command.stdout(Stdio::null());
    Contender(command.spawn().unwrap())
}

/// The release build of the helper, if there is one: with the debug build, this many rounds take long.
fn helper_path() -> String {
    std::env::var("ABA_LOCK_BIN").unwrap_or_else(|_| HELPER.to_owned())
}

fn count_lines(scene: &Scene, file: &str) -> usize {
    fs::read_to_string(scene.path(file)).unwrap_or_default().lines().count()
}

#[test]
fn contenders_exclude_each_other_and_no_wake_up_is_lost() {
    let scene = Scene::new();
    scene.make_root();
    fs::write(scene.path("witness"), "").unwrap();
    fs::write(scene.path("counter"), "00000000\n").unwrap();
    let scripts = [SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, COMMAND, COMMAND];
    let mut contenders: Vec<Contender> = scripts.iter().map(|script| start_contender(&scene, script)).collect();
    let mut remover = start_contender(&scene, REMOVER);

    let mut seen = (0, Instant::now());
    let mut kills = 0;
    // Random pauses, so that each kill happens at another step of its victim.
    let mut random = Random::new(0x2545_f491);
    while seen.0 < ACQUISITIONS || kills <= 50 || count_lines(&scene, "removals") <= 50 {
        thread::sleep(Duration::from_millis(20 + random.below(60)));
        let entries = count_lines(&scene, "entries");
        assert!(seen.1.elapsed() < PATIENCE, "all contenders wait: a wake-up was lost after {entries} entries");
        // On a busy machine, kills without a pause would let no contender begin.
        if entries == seen.0 {
            continue;
        }
        seen = (entries, Instant::now());
        let victim = random.index(contenders.len());
        contenders[victim].0.kill().unwrap();
        contenders[victim].0.wait().unwrap();
        contenders[victim] = start_contender(&scene, scripts[victim]);
        kills += 1;
    }

    fs::write(scene.path("stop"), "").unwrap();
    for child in contenders.iter_mut().chain([&mut remover]) {
        wait_until("the contenders have ended", || child.0.try_wait().unwrap().is_some());
    }
    // The command under the lock of a killed contender still runs.
    wait_until("the last command has ended", || {
        !scene.lock_file("fire").exists() || !is_locked(&scene.lock_file("fire"))
    });
    let entries = count_lines(&scene, "entries");
    let counter: usize = fs::read_to_string(scene.path("counter")).unwrap().trim().parse().unwrap();
    assert_eq!(count_lines(&scene, "violations"), 0, "two were inside at once");
    assert!(count_lines(&scene, "by-script") > entries / 4, "the scripts took part");
    // A killed contender may have counted without an entry. An entry without its two counts is a lost update.
    assert!(
        (2 * entries - kills..=2 * entries + 2 * kills).contains(&counter),
        "{entries} entries, and {counter} counted"
    );
}
