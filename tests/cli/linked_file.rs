//! Lock files with several names, which other users may have made.

use crate::process::set_mode;
use crate::scene::Scene;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn many_callers_at_once_replace_a_file_with_several_names_and_exclude_each_other() {
    let scene = Scene::new();
    scene.make_root();
    set_mode(scene.root(), 0o1777);
    let (other, file) = (scene.path("other"), scene.lock_file("a"));
    let number = scene.path("number");
    fs::write(&number, "0").unwrap();
    let count = format!("n=$(cat '{0}'); sleep 0.01; echo $((n + 1)) >'{0}'", number.display());
    for round in 1..=5 {
        scene.aba(["lock", "a", "--", "true"]).run();
        let _ = fs::remove_file(&other);
        fs::hard_link(&file, &other).unwrap();
        let call = || scene.aba(["lock", "-qw", "a", "--", "sh", "-c", &count]).start();
        let calls: Vec<_> = (0..8).map(|_| call()).collect();
        for call in calls {
            call.finish();
        }
        assert_eq!(fs::read_to_string(&number).unwrap().trim(), (round * 8).to_string());
        assert_eq!((fs::metadata(&file).unwrap().nlink(), fs::metadata(&other).unwrap().nlink()), (1, 1));
    }
}

#[test]
fn a_linked_file_whose_lock_is_held_stays_and_the_next_call_is_refused() {
    let scene = Scene::new();
    scene.make_root();
    set_mode(scene.root(), 0o1777);
    let holder = scene.holder("a");
    fs::hard_link(scene.lock_file("a"), scene.path("other")).unwrap();
    let hint = format!("run `ABA_LOCK_DIR={} aba-lock clean a`, which", scene.root().display());
    scene.aba(["lock", "-n", "a", "--", "true"]).status(125).err("it has 2 names (hard links)").err(&hint).run();
    scene.aba(["status", "a"]).out("a: held").out("problem: its lock file is refused: it has 2 names").run();
    assert_eq!(fs::metadata(scene.lock_file("a")).unwrap().nlink(), 2);
    holder.release();
    scene.aba(["lock", "-n", "a", "--", "true"]).run();
    assert_eq!(fs::metadata(scene.lock_file("a")).unwrap().nlink(), 1);
}
