//! Registries that are damaged, of another version, or beset: by many at once, by a kill between any two steps, by a
//! system that refuses.

use crate::call::Holder;
use crate::process::{count_waiters, interrupt_group, is_locked, kill, wait_until};
use crate::reserve::{call, number, registry, reserve, rows, set_registry};
use crate::scene::{HELPER, Scene};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Starts a reserve that is not read before it has ended: what it prints fits into a pipe.
fn start(scene: &Scene, root: &str, args: &[&str]) -> Child {
    let mut command = scene.program(HELPER);
    command.args(["reserve", "--probe", "none"]).args(args).env("ABA_LOCK_DIR", scene.path(root));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The status, the output and the messages of each.
fn finish(children: Vec<Child>) -> Vec<(i32, String, String)> {
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    children.into_iter().map(end).collect()
}

#[test]
fn of_twenty_concurrent_callers_eleven_get_the_eleven_numbers() {
    let scene = Scene::new();
    let expected: HashSet<u32> = (5000..=5010).collect();
    for round in 0..200 {
        let root = format!("root{round}");
        let tags: Vec<String> = (0..20).map(|tag| format!("t{tag}")).collect();
        let children = tags.iter().map(|tag| start(&scene, &root, &["--range", "5000-5010", "--tag", tag])).collect();
        let ended = finish(children);
        let given: Vec<u32> = ended.iter().filter(|end| end.0 == 0).map(|end| end.1.trim().parse().unwrap()).collect();
        assert_eq!(given.len(), 11, "round {round}: {ended:?}");
        assert_eq!(given.into_iter().collect::<HashSet<_>>(), expected, "round {round}");
        let failed: Vec<_> = ended.iter().filter(|end| end.0 != 0).collect();
        assert!(
            failed.iter().all(|(status, out, err)| *status == 75
                && out.is_empty()
                && err.starts_with("aba-lock: no number of ports is free in 5000-5010: 11 reserved")),
            "round {round}: {failed:?}"
        );
        fs::remove_dir_all(scene.path(&root)).unwrap();
    }
}

#[test]
fn fifty_concurrent_calls_for_one_key_get_one_number() {
    let scene = Scene::new();
    let ended = finish((0..50).map(|_| start(&scene, "locks", &["--tag", "t"])).collect());
    assert!(ended.iter().all(|end| *end == (0, "5000\n".to_owned(), String::new())), "{ended:?}");
    assert_eq!(rows(&scene, "ports").len(), 1);
}

#[test]
fn a_hundred_concurrent_keys_get_a_hundred_numbers() {
    let scene = Scene::new();
    let tags: Vec<String> = (0..100).map(|tag| format!("t{tag}")).collect();
    let ended = finish(tags.iter().map(|tag| start(&scene, "locks", &["--tag", tag])).collect());
    assert!(ended.iter().all(|end| end.0 == 0), "{ended:?}");
    let given: HashSet<&str> = ended.iter().map(|end| end.1.as_str()).collect();
    assert_eq!((given.len(), rows(&scene, "ports").len()), (100, 100));
}

#[test]
fn forty_concurrent_leases_get_forty_numbers() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo $ABA_NUMBER; exec read _ <'{}'", gate.path.display()).replace("exec ", "");
    let children: Vec<Child> = (0..40).map(|_| start(&scene, "locks", &["--", "bash", "-c", &script])).collect();
    let held = || fs::read_dir(scene.root().join("reserve/ports.d")).map_or(0, Iterator::count);
    wait_until("each has one", || held() == 40);
    for _ in 0..40 {
        gate.open();
    }
    let given: HashSet<String> = finish(children).into_iter().map(|end| end.1).collect();
    assert_eq!(given.len(), 40);
}

#[test]
fn twenty_concurrent_exclusions_are_all_kept() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000\n").run();
    let before = rows(&scene, "ports");
    let calls: Vec<_> = (0..20)
        .map(|n| scene.aba(["exclude".to_owned(), format!("{}-{}", 6000 + 10 * n, 6005 + 10 * n)]).start())
        .collect();
    for call in calls {
        call.finish();
    }
    assert_eq!(scene.aba(["exclude", "--list"]).out("").run().out.lines().count(), 20);
    assert_eq!(rows(&scene, "ports"), before);
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_never_see_errors_or_partial_rows() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000\n").run();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetWhenDropped(&done);
        let writer = scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    return round;
                }
                let tag = format!("t{}", round % 7);
                reserve(&scene, "a", &["--tag", &tag]).out("").run();
                call(&scene, "a", ["release", "--tag", &tag]).run();
            }
            0
        });
        for look in 0..500 {
            let said = if look % 2 == 0 {
                call(&scene, "a", ["reserve", "--check"]).out("5000\n").run().out
            } else {
                call(&scene, "a", ["reserve", "--list", "--format", "tsv"]).out("5000\tkept\t-\t").run().out
            };
            assert!(look % 2 == 0 || said.lines().all(|line| line.split('\t').count() == 9), "{said}");
        }
        drop(end);
        assert!(writer.join().unwrap() > 10);
    });
}

#[test]
fn a_damaged_registry_is_reported_kept_and_never_treated_as_empty() {
    let scene = Scene::new();
    for tag in ["a", "b", "c"] {
        reserve(&scene, "d", &["--tag", tag]).out("").run();
    }
    let whole = fs::read(registry(&scene, "ports")).unwrap();
    let mut flipped = whole.clone();
    let at = whole.windows(5).position(|word| word == b"5001 ").unwrap();
    flipped[at + 3] = b'7';
    let damaged: [&[u8]; 6] = [b"", b"\n", b"garbage\n", &whole[..whole.len() / 2], &flipped, &[0; 4096]];
    for content in damaged {
        fs::write(registry(&scene, "ports"), content).unwrap();
        let path = registry(&scene, "ports");
        let sentence = format!("aba-lock: the registry {} is damaged, and nothing is given out of it", path.display());
        // Again and again, also for whom it still has a line.
        for tag in ["a", "b", "new", "new"] {
            reserve(&scene, "d", &["--tag", tag])
                .status(125)
                .err(sentence.clone())
                .err("\nhint: take what can be read of it with `aba-lock reserve --recover --pool ports`\n")
                .run();
        }
        for args in [
            &["reserve", "--list"][..],
            &["reserve", "--check"],
            &["release"],
            &["exclude", "7"],
            &["reserve", "--prune"],
        ] {
            call(&scene, "d", args).status(125).err(sentence.clone()).run();
        }
        reserve(&scene, "d", &["--", "true"]).status(125).err(sentence.clone()).run();
        assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), content);
        assert_eq!(fs::read(registry(&scene, "ports.damaged")).unwrap(), content, "kept beside it, too");
    }
}

#[test]
fn recover_keeps_the_readable_rows_of_a_damaged_registry() {
    let scene = Scene::new();
    for tag in ["a", "b", "c"] {
        reserve(&scene, "d", &["--tag", tag]).out("").run();
    }
    call(&scene, "d", ["reserve", "--recover"]).err("the registry of ports is not damaged: nothing was changed").run();
    let whole = fs::read_to_string(registry(&scene, "ports")).unwrap();
    let cut = &whole[..whole.find(" c ").unwrap()];
    fs::write(registry(&scene, "ports"), cut).unwrap();
    reserve(&scene, "d", &["--tag", "a"]).status(125).err("damaged").run();
    call(&scene, "d", ["reserve", "--recover"])
        .err("took 2 numbers over; 1 lines could not be read; the damaged registry is now ")
        .err("hint: before others are given, exclude those that you know to be in use")
        .run();
    assert_eq!(number(reserve(&scene, "d", &["--tag", "b"])), 5001);
    let names = fs::read_dir(scene.root().join("reserve")).unwrap();
    let kept: Vec<_> =
        names.map(|entry| entry.unwrap().path()).filter(|path| path.to_str().unwrap().contains("damaged")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), cut);
}

#[test]
fn a_registry_of_another_version_is_left_alone() {
    let scene = Scene::new();
    reserve(&scene, "d", &[]).out("").run();
    let new = "aba-lock-registry 3 with more\nwhatever\n";
    fs::write(registry(&scene, "ports"), new).unwrap();
    for args in [&["reserve"][..], &["reserve", "--list"], &["release"], &["reserve", "--recover"], &["exclude", "5"]] {
        call(&scene, "d", args)
            .status(125)
            .err("is of version 3, which this aba-lock does not know\nhint: use the aba-lock that wrote it\n")
            .run();
    }
    assert_eq!(fs::read_to_string(registry(&scene, "ports")).unwrap(), new);
    assert!(!registry(&scene, "ports.damaged").exists());
}

#[test]
fn a_registry_is_readable_text() {
    let scene = Scene::new();
    reserve(&scene, "my tree", &["--tag", "web"]).out("5000").run();
    call(&scene, ".", ["exclude", "6000-6010"]).run();
    let text = fs::read_to_string(registry(&scene, "ports")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "aba-lock-registry 2");
    assert!(lines[1].starts_with("# number created used "), "{text}");
    assert_eq!(lines[2], "exclude 6000-6010");
    assert!(
        lines[3].starts_with("5000 ") && lines[3].contains(" web /") && lines[3].ends_with("/my\\040tree"),
        "{text}"
    );
    assert!(lines[4].starts_with("end 1 ") && lines.len() == 5, "{text}");
}

#[test]
fn a_reservation_waits_for_the_registry_until_its_timeout() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000").run();
    let lock = registry(&scene, "ports.lock");
    let holder = scene.flock_holder(&lock);
    reserve(&scene, "b", &["-t", "0.05"]).status(124).err("timed out after 0.05 s").run();
    reserve(&scene, "b", &[]).env("ABA_LOCK_TIMEOUT", "0.05").status(124).err("timed out").run();
    // Who only looks does not wait.
    call(&scene, "a", ["reserve", "--check"]).out("5000\n").run();
    let waiter = reserve(&scene, "b", &[]).out("5001\n").start();
    wait_until("it waits", || count_waiters(&lock) > 0);
    holder.release();
    waiter.finish();
}

/// Runs a reserve under strace with these options, and returns how it ended.
fn traced(scene: &Scene, options: &[&str], args: &[&str]) -> (Option<i32>, String) {
    fs::create_dir_all(scene.path("a")).unwrap();
    scene.trace_helper(options, args, "a")
}

/// The calls that change something, or after which something is decided.
const CALLS: [&str; 11] =
    ["mkdir", "openat", "flock", "read", "write", "pwrite64", "bind", "rename", "sync_file_range", "fsync", "close"];

/// Kills a reserve at this call, and looks at what it leaves to others. How it ended, and whether it has a row.
fn killed_at(args: &[&str], name: &str, when: u32) -> (Option<i32>, bool) {
    let scene = Scene::new();
    let taken = when.is_multiple_of(2);
    if taken {
        reserve(&scene, "b", &["--require", "5001"]).out("5001\n").run();
    }
    let (status, _) = traced(&scene, &["-e", &format!("inject={name}:signal=KILL:when={when}")], args);
    let lock = registry(&scene, "ports.lock");
    wait_until("it can be had", || !lock.exists() || !is_locked(&lock));
    let has = rows(&scene, "ports").iter().any(|row| row.ends_with("/a"));
    // The next one works, clears up, and gives to others what others do not have.
    let other = number(reserve(&scene, "c", &[]));
    let mine = number(reserve(&scene, "a", &[]));
    let expected = match (has, taken) {
        (true, true) => (5002, 5000),
        (true, false) => (5001, 5000),
        (false, true) => (5000, 5002),
        (false, false) => (5000, 5001),
    };
    assert_eq!((other, mine), expected, "killed at {name} {when}");
    let names = fs::read_dir(scene.root().join("reserve")).unwrap().map(|entry| entry.unwrap().file_name());
    let litter: Vec<_> =
        names.filter(|name| !["ports", "ports.lock", "ports.d"].iter().any(|known| name == known)).collect();
    assert!(litter.is_empty(), "killed at {name} {when}: {litter:?}");
    (status, has)
}

#[test]
fn a_reservation_killed_at_any_system_call_never_leads_to_duplicates() {
    for args in [
        &["reserve", "--probe", "none"][..],
        &["reserve", "--probe", "none", "--dotenv", "f"],
        &["reserve", "--probe", "none", "--", "true"],
    ] {
        let (mut with, mut without) = (0, 0);
        for name in CALLS {
            // Each call has a count of its own: this ends where there are no more of it.
            for when in 1.. {
                let (status, has) = killed_at(args, name, when);
                *(if has { &mut with } else { &mut without }) += 1;
                if status == Some(0) {
                    break;
                }
            }
        }
        let lease = args.contains(&"--");
        assert!(without > 20 && (with > 1 || lease), "{with} times with the row, {without} times without");
    }
}

#[test]
fn a_system_error_gives_no_number_and_changes_nothing() {
    let scene = Scene::new();
    reserve(&scene, "b", &[]).out("5000\n").run();
    let before = fs::read(registry(&scene, "ports")).unwrap();
    let path = registry(&scene, "ports");
    for (inject, why) in [
        ("write:error=ENOSPC:when=1", "No space left on device"),
        ("write:error=EDQUOT:when=1", ""),
        ("sync_file_range:error=EIO:when=1", "Input/output error"),
        ("rename:error=EROFS", "Read-only file system"),
        ("write:error=EFBIG", "File too large"),
        ("flock:error=ENOLCK", "does not lock files"),
    ] {
        let inject = format!("inject={inject}");
        let watched = [path.clone(), path.with_file_name(".ports.aba-lock.d"), path.with_file_name("ports.lock")];
        let watched = watched.iter().flat_map(|path| ["-P", path.to_str().unwrap()]);
        let options: Vec<&str> = watched.chain(["-e", &inject]).collect();
        let (status, said) = traced(&scene, &options, &["reserve", "--probe", "none"]);
        assert_eq!(status, Some(125), "{inject}: {said}");
        assert!(said.contains("aba-lock: ") && said.contains(why), "{inject}: {said}");
        assert_eq!(fs::read(&path).unwrap(), before, "{inject}");
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{inject}: {names:?}");
    }
    // When the disk fails at the very end there is a row, but the number is not told.
    let (status, said) = traced(&scene, &["-e", "inject=fsync:error=EIO"], &["reserve", "--probe", "none"]);
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("is changed, but the system did not say that it is on the disk: "), "{said}");
    // A file system that knows no such call is waited for in another way.
    let args = ["reserve", "--probe", "none", "--tag", "other"];
    let (status, said) = traced(&scene, &["-e", "inject=sync_file_range:error=ENOSYS"], &args);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(rows(&scene, "ports").len(), 3);
    // Who has a number gets it all the same, although that it is used cannot be noted.
    let text = fs::read_to_string(&path).unwrap();
    let row = text.lines().nth(2).unwrap();
    let words: Vec<&str> = row.split(' ').collect();
    set_registry(&scene, "ports", &format!("{} 1 1 {}\n", words[0], words[3..].join(" ")));
    let command = scene.strace(["-e", "inject=rename:error=ENOSPC", HELPER, "reserve", "--probe", "none"]);
    command.current_dir(scene.path("b")).out("5000\n").err("could not note that it is used: ").run();
    // The network may be closed to us.
    for (inject, status) in [
        ("socket:error=EACCES", 125),
        ("socket:error=EMFILE", 125),
        ("socket:error=EAFNOSUPPORT", 0),
        ("bind:error=EADDRNOTAVAIL", 0),
    ] {
        let (ended, said) =
            traced(&scene, &["-e", &format!("inject={inject}")], &["reserve", "--range", "5100-5101", "--dry-run"]);
        assert_eq!(ended, Some(status), "{inject}: {said}");
        assert!(status == 0 || said.contains("could not find out whether 5100 is in use: "), "{said}");
    }
}

#[test]
fn a_port_that_the_user_may_not_bind_is_reported() {
    let scene = Scene::new();
    let (status, said) =
        traced(&scene, &["-e", "inject=bind:error=EACCES"], &["reserve", "--range", "80-81", "--require", "80"]);
    assert_eq!(status, Some(75));
    assert!(said.contains("80 cannot be had: it is not for this user to bind to"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_reason() {
    let scene = Scene::new();
    scene.make_root();
    fs::write(scene.root().join("reserve"), "").unwrap();
    reserve(&scene, "a", &[]).status(125).err(scene.root().join("reserve").to_str().unwrap()).run();
    fs::remove_file(scene.root().join("reserve")).unwrap();
    fs::create_dir_all(registry(&scene, "ports")).unwrap();
    reserve(&scene, "a", &[]).status(125).err("is a directory, not a regular file").run();
    reserve(&scene, "a", &["--pool", "gpu", "--range", "0-7"]).out("0\n").run();
}

#[test]
fn the_registry_is_private_for_any_umask() {
    let scene = Scene::new();
    scene.make_root();
    fs::create_dir(scene.root().join("reserve")).unwrap();
    for (at, mask) in ["0777", "0000"].iter().enumerate() {
        scene.bash(&format!("umask {mask}; exec \"$HELPER\" reserve --probe none --tag t{at}")).out("").run();
        let mode = |name: &str| fs::metadata(registry(&scene, name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("ports"), 0o600);
        scene.bash(&format!("umask {mask}; exec \"$HELPER\" reserve --probe none --tag t{at} -- true")).run();
    }
}

#[test]
fn ctrl_c_during_the_wait_ends_the_script_and_reserves_nothing() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000").run();
    let lock = registry(&scene, "ports.lock");
    let holder = scene.flock_holder(&lock);
    let running = scene.bash_here("\"$HELPER\" reserve --probe none; echo after").own_group().status(130).start();
    wait_until("it waits", || count_waiters(&lock) > 0);
    interrupt_group(running.pid());
    running.finish();
    holder.release();
    assert_eq!(rows(&scene, "ports").len(), 1);
}

#[test]
fn a_dry_run_never_takes_a_number_from_a_lease() {
    let scene = Scene::new();
    reserve(&scene, "a", &["--", "true"]).run();
    assert!(!registry(&scene, "ports").exists(), "a lease is no row");
    thread::scope(|scope| {
        let rehearsals = scope.spawn(|| {
            for _ in 0..100 {
                reserve(&scene, "a", &["--dry-run"]).out("500").run();
            }
        });
        for _ in 0..100 {
            reserve(&scene, "a", &["--", "true"]).run();
        }
        rehearsals.join().unwrap();
    });
}

#[test]
fn an_error_while_reading_a_directory_is_not_ignored() {
    let scene = Scene::new();
    for directory in ["old", "new"] {
        fs::create_dir(scene.path(directory)).unwrap();
    }
    let (old, new) = (scene.path("old"), scene.path("new"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    scene.aba(["reserve", "--probe", "none", "--path", old]).out("").run();
    scene.once(["-qwi", "a", "--", "true"]).run();
    let words: [&[&str]; 3] = [&["migrate", "--from", old, "--to", new], &["run-once", "--list"], &["run-once", "-G"]];
    for args in words {
        let command = scene.strace(["-f", "-P"]).arg(scene.root().join("reserve")).arg("-P");
        let command = command.arg(scene.root().join("runner")).args(["-e", "inject=getdents64:error=EIO", HELPER]);
        command.args(args).status(125).err("Input/output error").run();
    }
    scene.aba(words[0]).run();
    scene.aba(["reserve", "--check", "--path", new]).out("").run();
}

#[test]
fn a_number_that_changes_its_kind_is_listed_once() {
    let scene = Scene::new();
    let lease = || {
        fs::create_dir_all(scene.path("b")).unwrap();
        let mut command = scene.program(HELPER);
        command
            .args(["reserve", "--probe", "none", "--", "sh", "-c", "echo held; read _"])
            .current_dir(scene.path("b"));
        Holder::start(command)
    };
    // So that there is a directory for leases.
    lease().release();
    let trace = scene.path("trace");
    // The list is stopped after it has read the rows, when it begins to look at the leases.
    let list_while = |change: &mut dyn FnMut()| -> Vec<(u64, String)> {
        let _ = fs::remove_file(&trace);
        let list = scene
            .call("strace")
            .arg("-o")
            .arg(&trace)
            .arg("-P")
            .arg(scene.root().join("reserve/ports.d"))
            .args(["-e", "inject=openat:signal=STOP:when=1", HELPER, "reserve", "--list", "--format", "json"])
            .out("")
            .start();
        wait_until("the list is stopped", || {
            fs::read_to_string(&trace).is_ok_and(|text| text.contains("stopped by SIGSTOP"))
        });
        change();
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", list.pid())).unwrap();
        kill(children.trim().parse().unwrap(), 18);
        let said: serde_json::Value = serde_json::from_str(&list.finish().out).unwrap();
        let entry =
            |entry: &serde_json::Value| (entry["number"].as_u64().unwrap(), entry["kind"].as_str().unwrap().to_owned());
        said.as_array().unwrap().iter().map(entry).collect()
    };
    assert_eq!(number(reserve(&scene, "a", &[])), 5000);
    let mut holder = None;
    let seen = list_while(&mut || {
        call(&scene, "a", ["release"]).run();
        holder = Some(lease());
    });
    assert_eq!(seen, [(5000, "leased".to_owned())]);
    let seen = list_while(&mut || {
        holder.take().unwrap().release();
        assert_eq!(number(reserve(&scene, "a", &[])), 5000);
    });
    assert_eq!(seen, [(5000, "kept".to_owned())]);
}
