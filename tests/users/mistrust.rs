//! Nothing in a shared directory is trusted that another user may have written.

use crate::place::{Place, set_mode};
use crate::user::{ALICE, BOB, ROOT, STAFF, User, Way};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Output;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_hard_link_in_place_of_a_lock_file_is_refused_and_not_written() {
    for (owner, group, mode) in [(ROOT, STAFF, 0o770), (ROOT, 0, 0o1777)] {
        let place = Place::new(owner.id, group, mode);
        let file = place.base().join("empty");
        fs::write(&file, "").unwrap();
        fs::hard_link(&file, place.lock_file("a")).unwrap();
        for way in [Way::Helper, Way::Library] {
            let output = ROOT.try_lock(&place, "022", way, "a");
            assert_eq!(output.status.code(), Some(125), "{}", text(&output));
            assert!(text(&output).contains("aba-a.lock: it has 2 names (hard links), and other users may write "));
        }
        assert_eq!(fs::read(&file).unwrap(), b"");
    }
    // In a private directory, a backup may have linked the file.
    let place = Place::new(ROOT.id, 0, 0o700);
    fs::write(place.lock_file("a"), "").unwrap();
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
        assert!(text(&output).contains("reserve-0: it belongs to user 61002"), "{}", text(&output));
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_member_of_a_group_turns_the_log_on_although_only_the_owners_can_mark_the_files_of_others() {
    let place = Place::new(ROOT.id, STAFF, 0o2770);
    assert!(BOB.call(&place, "022", &["lock", "a", "--", "true"]).status.success());
    let output = ALICE.call(&place, "022", &["log", "--enable"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("events are logged in ") && said.contains("cannot mark "), "{said}");
    assert!(ALICE.call(&place, "022", &["lock", "b", "--", "true"]).status.success());
    assert!(text(&ALICE.call(&place, "022", &["log"])).contains("  b: pid "));
}
