//! Nothing in a shared directory is trusted that another user may have written.

use crate::place::{Place, set_mode};
use crate::user::{ALICE, BOB, ROOT, STAFF, User, Way};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Output, Stdio};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_hard_link_in_place_of_a_lock_file_is_refused_and_not_written() {
    for (owner, group, mode) in [(ROOT, STAFF, 0o770), (ROOT, 0, 0o1777)] {
        let place = Place::new(owner.id, group, mode);
        let file = place.base().join("empty");
        let path = file.to_str().unwrap();
        fs::write(&file, "").unwrap();
        set_mode(&file, 0o666);
        fs::hard_link(&file, place.lock_file("a")).unwrap();
        for way in [Way::Helper, Way::Library] {
            let output = ALICE.try_lock(&place, "022", way, "a");
            assert_eq!(output.status.code(), Some(125), "{}", text(&output));
            assert!(text(&output).contains("aba-a.lock: it has 2 names (hard links), and other users may write "));
        }
        let refused = "its lock file is refused: it has 2 names (hard links)";
        let listed = text(&ALICE.call(&place, "022", &["list"]));
        assert!(listed.contains("refused") && listed.contains(refused), "{listed}");
        let output = ALICE.call(&place, "022", &["unlock", "a", "--kill"]);
        assert!(text(&output).contains(refused) && text(&output).contains("hint: run as root: "), "{}", text(&output));
        assert_eq!(fs::read(&file).unwrap(), b"");
        // A process has the file open, so the owner is refused, too, and the name stays. It is not the one of the tests, because
        // a child that another test forks at this moment could have the file open for longer.
        let mut opener = ROOT.program(&place, "022", &["sh", "-c", "exec 9<\"$0\"; echo open; read -r _", path]);
        let mut opener = opener.stdin(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(opener.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        let output = ROOT.try_lock(&place, "022", Way::Helper, "a");
        assert_eq!(output.status.code(), Some(125), "{}", text(&output));
        assert_eq!(fs::metadata(&file).unwrap().nlink(), 2);
        drop(opener.stdin.take());
        opener.wait().unwrap();
        assert!(ROOT.try_lock(&place, "022", Way::Helper, "a").status.success());
        assert_eq!((fs::read(&file).unwrap(), fs::metadata(&file).unwrap().nlink()), (vec![], 1));
        assert!(ALICE.try_lock(&place, "022", Way::Library, "a").status.success());
    }
    // In a private directory, a backup may have linked the file.
    let place = Place::new(ROOT.id, 0, 0o700);
    assert!(Command::new("touch").arg(place.lock_file("a")).status().unwrap().success());
    fs::hard_link(place.lock_file("a"), place.base().join("backup")).unwrap();
    assert!(ROOT.try_lock(&place, "022", Way::Helper, "a").status.success());
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_record_of_one_gigabyte_is_not_read() {
    let place = Place::new(ROOT.id, 0, 0o1777);
    let file = fs::File::create(place.lock_file("a")).unwrap();
    file.set_len(1 << 30).unwrap();
    chown(place.lock_file("a"), Some(BOB.id), Some(BOB.id)).unwrap();
    set_mode(&place.lock_file("a"), 0o666);
    // Half of that is more than the helper may allocate.
    for words in [&["lock", "a", "--", "true"][..], &["status", "a"], &["list"], &["unlock", "a"]] {
        let helper = place.helper();
        let limited = [&["prlimit", "--as=536870912", "--", helper.to_str().unwrap()], words].concat();
        let output = ROOT.program(&place, "022", &limited).output().unwrap();
        assert!(output.status.code().is_some_and(|status| status < 2), "{words:?}: {}", text(&output));
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn links_of_the_user_and_of_root_lead_to_the_state_root() {
    let place = Place::new(ROOT.id, 0, 0o1777);
    for (owner, works) in [(ALICE, true), (ROOT, true), (BOB, false)] {
        let (link, kept) = (place.root().join(owner.name), place.base().join("kept").join(owner.name));
        fs::create_dir_all(&kept).unwrap();
        chown(&kept, Some(ALICE.id), Some(ALICE.id)).unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(owner.id), Some(owner.id)).unwrap();
        for root in [link.clone(), link.join("below")] {
            let helper = place.helper();
            let words = [helper.to_str().unwrap(), "lock", "a", "--", "true"];
            let output = ALICE.program(&place, "022", &words).env("ABA_LOCK_DIR", &root).output().unwrap();
            assert_eq!(output.status.success(), works, "{}: {}", owner.name, text(&output));
            assert_eq!(kept.join("aba-a.lock").exists(), works);
        }
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn only_the_owner_of_a_lock_file_can_replace_it_and_the_holder_can_find_that_out() {
    let place = Place::new(ROOT.id, 0, 0o1777);
    let replace =
        format!("cd '{}' && mv aba-a.lock old && : >aba-a.lock && chmod 666 aba-a.lock", place.root().display());
    // ROOT has created the file.
    assert!(ROOT.call(&place, "022", &["path", "--create", "a"]).status.success());
    let holder = ALICE.hold(&place, "022", Way::Library, "a").unwrap();
    assert!(!BOB.program(&place, "022", &["sh", "-c", &replace]).output().unwrap().status.success());
    for way in [Way::Helper, Way::Library, Way::Builtin] {
        assert_eq!(ROOT.try_lock(&place, "022", way, "a").status.code(), Some(way.busy_status()));
    }
    holder.release();
    // BOB has created the file.
    place.renew(ROOT.id, 0, 0o1777);
    assert!(BOB.try_lock(&place, "022", Way::Helper, "a").status.success());
    let script = format!(
        "source '{}'; aba_lock_operation a; aba_lock_check a && echo held; read -r _; aba_lock_check a || echo \"lost $?\"",
        place.library().display()
    );
    let mut child = ALICE.program(&place, "022", &["bash", "-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "held");
    assert!(BOB.program(&place, "022", &["sh", "-c", &replace]).output().unwrap().status.success());
    // The new file is another lock.
    assert!(ROOT.try_lock(&place, "022", Way::Helper, "a").status.success());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "lost 1");
    child.wait().unwrap();
}

#[test]
#[ignore = "needs root: make test-root"]
fn status_and_doctor_show_a_holder_whose_file_was_removed_although_it_has_just_created_the_file() {
    for (group, mode, remover) in [(STAFF, 0o2770, BOB), (0, 0o1777, ROOT)] {
        let place = Place::new(ROOT.id, group, mode);
        for way in [Way::Helper, Way::Library, Way::Builtin] {
            let holder = ALICE.hold(&place, "022", way, "a").unwrap();
            let remove = ["rm", "-f", &place.lock_file("a").display().to_string()].map(str::to_owned);
            let words: Vec<&str> = remove.iter().map(String::as_str).collect();
            assert!(remover.program(&place, "022", &words).status().unwrap().success());
            assert!(BOB.try_lock(&place, "022", Way::Helper, "a").status.success());
            let seen = ROOT.call(&place, "022", &["status", "a"]);
            assert!(text(&seen).contains("removed"), "{way:?}: {}", text(&seen));
            let found = ROOT.call(&place, "022", &["doctor"]);
            assert!(text(&found).contains("its file was removed while pid "), "{way:?}: {}", text(&found));
            let listed = ROOT.call(&place, "022", &["list"]);
            assert!(text(&listed).contains("removed"), "{way:?}: {}", text(&listed));
            holder.release();
            fs::remove_file(place.lock_file("a")).unwrap();
        }
    }
}

fn task(user: User, place: &Place, words: &[&str]) -> Output {
    user.call(place, "022", &[&["run-once", "-w", "-i", "job"], words].concat())
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_task_of_a_group_runs_once_for_all_its_members() {
    let place = Place::new(ROOT.id, STAFF, 0o770);
    for (first, second) in [(ALICE, BOB), (ROOT, ALICE), (BOB, ROOT)] {
        place.renew(ROOT.id, STAFF, 0o770);
        let command = ["--", "echo", "done"];
        assert!(task(first, &place, &command).status.success());
        assert!(task(second, &place, &["--", "false"]).status.success());
        let output = second.call(&place, "022", &["run-once", "-o", "-i", "job"]);
        assert_eq!((output.status.code(), output.stdout), (Some(0), b"done\n".to_vec()));
        for file in place.files().iter().filter(|file| !file.path.ends_with("pid")) {
            assert_eq!((file.mode, file.group), (0o660, STAFF), "{file:?}");
        }
        // The other member can forget it and run it again.
        let output = second.call(&place, "077", &["run-once", "-r", "-i", "job"]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(task(second, &place, &command).status.success());
        let output = first.call(&place, "077", &["run-once", "-r", "-i", "job"]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn each_user_has_tasks_of_its_own_where_all_users_share_the_directory() {
    let place = Place::new(ROOT.id, 0, 0o1777);
    for user in [BOB, ROOT, ALICE] {
        let output = task(user, &place, &["--", "echo", user.name]);
        assert!(output.status.success(), "{}", text(&output));
        let output = user.call(&place, "022", &["run-once", "-o", "-i", "job"]);
        assert_eq!(text(&output), format!("{}\n", user.name));
        let data = fs::metadata(place.root().join(format!("runner-{}", user.id))).unwrap();
        assert_eq!((data.mode() & 0o7777, data.uid()), (0o711, user.id));
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn numbers_are_shared_by_a_group_and_separate_where_all_users_share_the_directory() {
    let place = Place::new(ROOT.id, STAFF, 0o770);
    let reserve = |user: User, tag: &str| {
        let output = user.call(&place, "077", &["reserve", "--pool", "slots", "--range", "1-9", "--tag", tag]);
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!([reserve(ALICE, "a"), reserve(BOB, "b"), reserve(ROOT, "c")], ["1\n", "2\n", "3\n"]);
    assert_eq!(reserve(BOB, "a"), "1\n");
    for file in place.files() {
        assert_eq!((file.mode, file.group), (0o660, STAFF), "{file:?}");
    }
    place.renew(ROOT.id, 0, 0o1777);
    assert_eq!([reserve(ALICE, "a"), reserve(BOB, "b")], ["1\n", "1\n"]);
    // Another user has made the directory first.
    fs::create_dir(place.root().join("reserve-0")).unwrap();
    chown(place.root().join("reserve-0"), Some(BOB.id), Some(BOB.id)).unwrap();
    for words in [&["reserve", "--pool", "slots", "--range", "1-9"][..], &["reserve", "--list"]] {
        let output = ROOT.call(&place, "022", words);
        assert_eq!(output.status.code(), Some(125), "{}", text(&output));
        let cause =
            format!("cannot use the directory for numbers {}/reserve-0: it belongs to ", place.root().display());
        assert!(text(&output).contains(&cause), "{}", text(&output));
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_member_of_a_group_turns_the_log_on_although_only_the_owners_can_mark_the_files_of_others() {
    let place = Place::new(ROOT.id, STAFF, 0o2770);
    assert!(BOB.call(&place, "022", &["lock", "a", "--", "true"]).status.success());
    let output = ALICE.call(&place, "022", &["log", "--enable"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("events are logged in ") && said.contains("cannot turn logging on for "), "{said}");
    assert!(ALICE.call(&place, "022", &["lock", "b", "--", "true"]).status.success());
    assert!(text(&ALICE.call(&place, "022", &["log"])).contains("  b: pid "));
}
