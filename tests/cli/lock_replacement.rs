//! Lock files that are removed, renamed or redirected while a process waits for them.

use crate::process::{count_waiters, is_locked, wait_until};
use crate::scene::{HELPER, Scene};
use std::fs;

#[test]
fn a_waiter_for_a_replaced_file_waits_for_the_new_file() {
    let scene = Scene::new();
    let first = scene.holder("a");
    let mut waiter = scene.aba(["lock", "-qw", "a", "--", "echo", "mine"]).out("mine\n").start();
    scene.wait_for_waiter("a");
    fs::remove_file(scene.lock_file("a")).unwrap();
    let second = scene.holder("a");
    first.release();
    // The waiter acquired the lock of the removed file, and must wait for the second holder.
    scene.wait_for_waiter("a");
    assert!(!waiter.has_ended());
    second.release();
    waiter.finish();
}

#[test]
fn a_file_replaced_during_the_wait_for_the_next_lock_is_locked_again() {
    let scene = Scene::new();
    let second = scene.holder("b");
    let mut waiter = scene.aba(["lock", "-qw", "a", "b", "--", "echo", "mine"]).out("mine\n").start();
    scene.wait_for_waiter("b");
    fs::remove_file(scene.lock_file("a")).unwrap();
    let first = scene.holder("a");
    second.release();
    // The waiter acquired b, and holds the removed file of a. It must release b and wait for the new file of a.
    scene.wait_for_waiter("a");
    scene.aba(["lock", "b", "--", "true"]).run();
    assert!(!waiter.has_ended());
    first.release();
    waiter.finish();
}

#[test]
fn a_waiter_that_starts_over_releases_the_locks_that_it_was_granted_at_once() {
    let scene = Scene::new();
    let second = scene.holder("b");
    let mut waiter =
        scene.aba(["lock", "-w", "a", "b", "--", "echo", "mine"]).out("mine\n").err("waiting for b").start();
    // The second thread of the waiter has descriptors of its own from now on, and sleeps.
    waiter.wait_for_error("waiting for b");
    scene.wait_for_waiter("b");
    let old = scene.path("old");
    fs::rename(scene.lock_file("a"), &old).unwrap();
    let first = scene.holder("a");
    second.release();
    scene.wait_for_waiter("a");
    assert!(!is_locked(&scene.lock_file("b")) && !is_locked(&old));
    assert!(!waiter.has_ended());
    first.release();
    waiter.finish();
}

#[test]
fn a_waiter_releases_the_lock_of_a_replaced_file_at_once() {
    let scene = Scene::new();
    let first = scene.holder("a");
    let waiter = scene.aba(["lock", "-w", "a", "--", "echo", "mine"]).out("mine\n").err("waiting for a").start();
    waiter.wait_for_error("waiting for a");
    scene.wait_for_waiter("a");
    let old = scene.path("old");
    fs::rename(scene.lock_file("a"), &old).unwrap();
    let second = scene.holder("a");
    first.release();
    scene.wait_for_waiter("a");
    assert!(!is_locked(&old), "another waiter for the old file would wait until the second thread of this one wakes");
    second.release();
    waiter.finish();
}

#[test]
fn the_first_of_several_files_is_checked_again_after_the_wait() {
    let scene = Scene::new();
    let (one, two) = (scene.path("1"), scene.path("2"));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let second = scene.holder_with(&["--file", two]);
    let call = ["lock", "-qw", "--file", one, "--file", two, "--", "echo", "mine"];
    let mut waiter = scene.aba(call).out("mine\n").start();
    wait_until("it waits for the second", || count_waiters(two.as_ref()) == 1);
    fs::rename(one, scene.path("moved")).unwrap();
    let first = scene.holder_with(&["--file", one]);
    second.release();
    wait_until("it waits for the first", || count_waiters(one.as_ref()) == 1);
    assert!(!waiter.has_ended());
    first.release();
    waiter.finish();
}

#[test]
fn the_second_path_to_one_file_is_checked_again_after_the_wait() {
    let scene = Scene::new();
    let (one, two, three) = (scene.path("1"), scene.path("2"), scene.path("3"));
    fs::write(&one, "").unwrap();
    fs::hard_link(&one, &two).unwrap();
    let [one, two, three] = [&one, &two, &three].map(|path| path.to_str().unwrap());
    let last = scene.holder_with(&["--file", three]);
    let call = ["lock", "-qw", "--file", one, "--file", two, "--file", three, "--", "echo", "mine"];
    let mut waiter = scene.aba(call).out("mine\n").start();
    wait_until("it waits for the last", || count_waiters(three.as_ref()) == 1);
    fs::remove_file(two).unwrap();
    let second = scene.holder_with(&["--file", two]);
    last.release();
    wait_until("it waits for the second", || count_waiters(two.as_ref()) == 1);
    assert!(!waiter.has_ended());
    second.release();
    waiter.finish();
}

#[test]
fn a_waiter_for_a_link_waits_for_its_final_target() {
    for link_of_directory in [false, true] {
        let scene = Scene::new();
        for release in ["1", "2"] {
            fs::create_dir(scene.path(release)).unwrap();
            fs::write(scene.path(release).join("data"), "").unwrap();
        }
        let (link, inside) = (scene.path("current"), if link_of_directory { "" } else { "data" });
        let point_to = |release: &str| std::os::unix::fs::symlink(scene.path(release).join(inside), &link).unwrap();
        point_to("1");
        let named = if link_of_directory { link.join("data") } else { link.clone() };
        let named = named.to_str().unwrap();
        let first = scene.holder_with(&["--file", named]);
        let mut waiter = scene.aba(["lock", "-qw", "--file", named, "--", "echo", "mine"]).out("mine\n").start();
        let waiters = |release: &str| count_waiters(&scene.path(release).join("data"));
        wait_until("it waits", || waiters("1") == 1);
        fs::remove_file(&link).unwrap();
        point_to("2");
        let second = scene.holder_with(&["--file", named]);
        first.release();
        wait_until("it waits for the new target", || waiters("2") == 1);
        assert!(!waiter.has_ended());
        second.release();
        waiter.finish();
    }
}

#[test]
fn a_descriptor_of_a_redirected_link_exits_with_76() {
    let scene = Scene::new();
    let (one, two, link) = (scene.path("1"), scene.path("2"), scene.path("current"));
    for path in [&one, &two] {
        fs::write(path, "").unwrap();
    }
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let holder = scene.holder_with(&["--file", one.to_str().unwrap()]);
    let script = r#"exec 9<>"$1"; "$HELPER" lock -qw --file "$1" --fd 9; status=$?
        flock -n -E 7 "/proc/$$/fd/9" true || exit 91
        exit $status"#;
    let command = scene.call("bash").args(["-c", script, "bash"]).arg(&link).status(76);
    let waiter = command.err("is not open on").start();
    wait_until("it waits", || count_waiters(&one) == 1);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&two, &link).unwrap();
    holder.release();
    waiter.finish();
}

#[test]
fn files_are_locked_in_one_order_regardless_of_their_paths() {
    let scene = Scene::new();
    let (one, two) = (scene.path("1"), scene.path("2"));
    for exists in [false, true] {
        if exists {
            fs::write(&two, "").unwrap();
        }
        let holder = scene.holder_with(&["--file", one.to_str().unwrap()]);
        let call = ["lock", "-qw", "--file", "./2", "--file", one.to_str().unwrap(), "--file", "1", "--", "true"];
        let waiter = scene.call(HELPER).current_dir(scene.path("")).args(call).start();
        wait_until("it waits for the first", || count_waiters(&one) == 1);
        assert!(!two.exists() || !is_locked(&two));
        holder.release();
        waiter.finish();
        fs::remove_file(&two).unwrap();
    }
}

#[test]
fn a_file_replaced_during_the_wait_for_the_next_descriptor_exits_with_76() {
    let scene = Scene::new();
    let holder = scene.holder("b");
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)" 201<>"$ABA_LOCK_DIR/aba-b.lock"
        "$HELPER" lock -qw --fd 200 --fd 201 a b; status=$?
        flock -n -E 7 "/proc/$$/fd/200" true || exit 91
        flock -n -E 7 "/proc/$$/fd/201" true || exit 92
        exit $status
    "#;
    let waiter = scene.bash(script).status(76).err("file descriptor 200 is not open on").start();
    scene.wait_for_waiter("b");
    fs::rename(scene.lock_file("a"), scene.path("moved")).unwrap();
    holder.release();
    waiter.finish();
}

#[test]
fn a_descriptor_of_a_replaced_file_exits_with_76() {
    let scene = Scene::new();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)"
        rm "$ABA_LOCK_DIR/aba-a.lock"
        "$HELPER" lock --fd 200 a; [[ $? == 76 ]] || exit 91
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 200 a
    "#;
    scene.bash(script).err("hint: open it again: `exec 200<>").run();
}

#[test]
fn a_file_replaced_during_the_wait_exits_with_76_and_is_not_locked() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let script = r#"
        exec 200<>"$ABA_LOCK_DIR/aba-a.lock"
        "$HELPER" lock -qw --fd 200 a; status=$?
        flock -n -E 7 "/proc/$$/fd/200" true || exit 91
        exit $status
    "#;
    let waiter = scene.bash(script).status(76).err("is not open on").start();
    scene.wait_for_waiter("a");
    fs::rename(scene.lock_file("a"), scene.path("moved")).unwrap();
    holder.release();
    waiter.finish();
}
