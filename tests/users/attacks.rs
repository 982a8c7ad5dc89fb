//! Attacks of a hostile user in a directory for locks that all users share: for each one, what the hostile user prepares, and the calls
//! of two victims, a user and root.
//!
//! After each call: it has ended by itself, with the expected status and message; it has printed no control character; no file of a
//! victim has changed or was printed; no command of the hostile user has run; and the process that a forged record names is alive.

use crate::attack_table::{ATTACKS, Attack, VictimCall};
use crate::other_attacks::OTHER_ATTACKS;
use crate::place::{Place, set_mode};
use crate::sharing::KERNEL_SETTINGS;
use crate::user::{ALICE, BOB, ROOT, User};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The number of attacks at the same time. Most calls wait for a second.
const THREADS: usize = 4;

/// A directory with the files that the hostile user wants.
struct Target {
    place: Place,
    /// A process of the user, which a forged record names.
    victim: Child,
}

impl Target {
    fn new(root_mode: u32) -> Self {
        let place = Place::new(ROOT.id, 0, root_mode);
        for (name, content, mode) in
            [("secret", "secret\n", 0o600), ("target", "target\n", 0o644), ("empty", "", 0o600)]
        {
            let path = place.base().join(name);
            fs::write(&path, content).unwrap();
            set_mode(&path, mode);
            chown(&path, Some(ALICE.id), Some(ALICE.id)).unwrap();
        }
        for (name, owner) in [("work", ALICE), ("own", ALICE), ("bob", BOB)] {
            fs::create_dir(place.base().join(name)).unwrap();
            chown(place.base().join(name), Some(owner.id), Some(owner.id)).unwrap();
        }
        let link = place.base().join("own/link");
        symlink("../locks/team/locks", &link).unwrap();
        lchown(&link, Some(ALICE.id), Some(ALICE.id)).unwrap();
        let victim = ALICE.program(&place, "022", &["sleep", "600"]).spawn().unwrap();
        Self { place, victim }
    }

    /// A call of the shell by a user. It is killed after a time that no call needs.
    fn shell(&self, user: User, text: &str) -> Command {
        let words = ["timeout", "-s", "KILL", "60", "sh", "-c", text];
        let mut command = user.program(&self.place, "022", &words);
        command
            .env("BASE", self.place.base())
            .env("H", self.place.helper())
            .env("VICTIM", self.victim.id().to_string());
        command.current_dir(self.place.root());
        command
    }

    /// Lets the hostile user prepare the attack. Returns the process that goes on, if there is one.
    fn prepare(&self, attack: &Attack) -> Option<Child> {
        let output = self.shell(attack.by, attack.script).output().unwrap();
        assert!(output.status.success(), "{}: {}", attack.name, String::from_utf8_lossy(&output.stderr));
        if attack.program.is_empty() {
            return None;
        }
        let open = "import fcntl, os, signal, sys, time\nf = os.open('aba-a.lock', os.O_RDWR | os.O_CREAT, 0o666); os.fchmod(f, 0o666)";
        let text = format!("{open}\n{}\nprint('ready', flush=True); time.sleep(600)", attack.program);
        let mut command = BOB.program(&self.place, "022", &["python3", "-c", &text]);
        command.env("VICTIM", self.victim.id().to_string()).env("BASE", self.place.base());
        command.current_dir(self.place.root()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{}", attack.name);
        Some(child)
    }

    /// Makes the calls of one victim.
    fn call(&mut self, attack: &Attack, user: User, calls: &[VictimCall]) {
        for call in calls {
            let (status, text) = call.expected[usize::from(user == ROOT)];
            let output = self.shell(user, call.text).output().unwrap();
            let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
            let what = format!("{}: {} by {}: {said:?}", attack.name, call.text, user.name);
            assert_eq!(output.status.code().ok_or(output.status.signal()), Ok(status), "{what}");
            assert!(said.contains(text), "{text:?} was expected: {what}");
            assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "control characters: {what}");
            assert!(!said.contains("panicked") && !said.contains("secret\n"), "{what}");
            self.check_victims(&what);
        }
    }

    fn check_victims(&mut self, what: &str) {
        let base = self.place.base();
        for (name, content, mode) in
            [("secret", "secret\n", 0o600), ("target", "target\n", 0o644), ("empty", "", 0o600)]
        {
            let path = base.join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), content, "{name}: {what}");
            let data = fs::metadata(&path).unwrap();
            assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (mode, ALICE.id, ALICE.id), "{name}: {what}");
        }
        assert_eq!(fs::read_dir(base.join("work")).unwrap().count(), 0, "files in another directory: {what}");
        for name in ["evil", "none", "target.lock"] {
            assert!(fs::symlink_metadata(base.join(name)).is_err(), "{name}: {what}");
        }
        assert!(self.victim.try_wait().unwrap().is_none(), "the victim has ended: {what}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_hostile_user_cannot_make_others_write_run_or_read_anything_nor_wait_without_a_message() {
    let attacks: Vec<&Attack> = ATTACKS.iter().chain(OTHER_ATTACKS).collect();
    assert!(attacks.len() >= 50);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(attack) = attacks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for user in [ALICE, ROOT] {
                        let run = || {
                            let _settings = KERNEL_SETTINGS.read().unwrap();
                            let mut target = Target::new(attack.root_mode);
                            let process = target.prepare(attack);
                            let process = process.map(KilledChild);
                            target.call(attack, user, attack.calls);
                            drop(process);
                        };
                        if let Err(error) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                            let text = error.downcast_ref::<String>().cloned().unwrap_or_default();
                            failures.lock().unwrap().push(text);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// A process that is killed when this is dropped.
struct KilledChild(Child);

impl Drop for KilledChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
