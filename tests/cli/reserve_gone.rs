//! Which directories are taken for gone, and which only out of sight.

use crate::call::Call;
use crate::reserve::{call, reserve, rows};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What would be pruned.
fn pruned(scene: &Scene) -> String {
    call(scene, ".", ["reserve", "--prune", "--dry-run"]).out("").run().out
}

#[test]
fn a_directory_below_a_replaced_parent_is_not_pruned() {
    let scene = Scene::new();
    for (at, above) in ["top", "top/mid"].iter().enumerate() {
        let tree = format!("{at}/top/mid/tree");
        reserve(&scene, &tree, &[]).out("").run();
        let above = scene.path(&format!("{at}/{above}"));
        fs::rename(&above, scene.path(&format!("{at}/elsewhere"))).unwrap();
        fs::create_dir_all(above.join("something")).unwrap();
        assert_eq!(pruned(&scene), "");
    }
    // The way leads through a link, further up.
    reserve(&scene, "2/top/mid/tree", &[]).out("").run();
    fs::rename(scene.path("2/top"), scene.path("2/elsewhere")).unwrap();
    symlink("elsewhere", scene.path("2/top")).unwrap();
    fs::rename(scene.path("2/elsewhere/mid/tree"), scene.path("2/tree")).unwrap();
    assert_eq!(pruned(&scene), "");
    // When it is what it was before, it can be told.
    fs::remove_file(scene.path("2/top")).unwrap();
    fs::rename(scene.path("2/elsewhere"), scene.path("2/top")).unwrap();
    assert!(pruned(&scene).ends_with("/2/top/mid/tree\n"));
    assert_eq!(rows(&scene, "ports").len(), 3);
}

/// Runs a script in a mount namespace of its own, if there can be one.
fn among_mounts(scene: &Scene, script: &str) -> Option<String> {
    let unshare = |script: &str| {
        let mut command = scene.program("unshare");
        command.args(["--user", "--map-root-user", "--mount", "bash", "-ec", script]).current_dir(scene.path("."));
        command
    };
    if !unshare("mount -t tmpfs none .").output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let prelude =
        format!("r() {{ (cd $1; {HELPER} reserve --probe none >/dev/null); }}; p() {{ {HELPER} reserve --prune; }}\n");
    Some(Call::new(unshare(&(prelude + script))).out("").run().out)
}

#[test]
fn a_directory_on_an_unmounted_file_system_is_not_pruned() {
    let scene = Scene::new();
    for script in [
        // On the same file system; where it was there is something else, or nothing.
        "mkdir -p disk/tree mnt/x; mount --bind disk mnt; mkdir mnt/d; r mnt/d; umount mnt; p",
        "mkdir -p disk/d mnt; mount --bind disk mnt; r mnt/d; umount mnt; rmdir mnt; p",
        "mkdir -p disk/d mnt; mount --bind disk/d mnt; r mnt; umount mnt; rmdir mnt; p",
        // Covered by another directory.
        "mkdir -p a/b/d other/x; r a/b/d; mount --bind other a/b; p; umount a/b; mount --bind other a; p",
        // Another file system of the kind, which gets the number of the first.
        "mkdir -p mnt; mount -t tmpfs a mnt; mkdir -p mnt/p/d; r mnt/p/d; umount mnt; mount -t tmpfs b mnt; mkdir mnt/p; p",
        "mkdir -p mnt; mount -t tmpfs a mnt; mkdir mnt/d; r mnt/d; umount mnt; mount -t tmpfs b mnt; mkdir mnt/x; p",
    ] {
        let Some(said) = among_mounts(&scene, script) else { return };
        assert_eq!(said, "", "{script}");
        assert!(Path::new(&scene.path(".")).is_dir());
        fs::remove_dir_all(scene.root()).unwrap();
        for name in ["disk", "mnt", "a", "other"] {
            let _ = fs::remove_dir_all(scene.path(name));
        }
    }
    // Where it is mounted and the directory is not there, it is gone.
    let script = "mkdir mnt; mount -t tmpfs a mnt; mkdir -p mnt/p/d; r mnt/p/d; rmdir mnt/p/d; p";
    assert!(among_mounts(&scene, script).unwrap().ends_with("/mnt/p/d\n"));
}
