//! `lock --pid-file`: the pid file of another process.

use crate::scene::Scene;
use std::fs;

#[test]
fn a_pid_file_of_a_running_process_is_not_replaced() {
    let scene = Scene::new();
    let path = scene.path("pid");
    let file = path.to_str().unwrap();
    let holder = scene.holder_with(&["--pid-file", file, "a"]);
    let before = fs::read_to_string(file).unwrap();
    let cause = format!("cannot write {file}: it names pid {}, which is running", before.trim());
    scene.aba(["lock", "--pid-file", file, "b", "--", "true"]).status(125).err(cause).run();
    assert_eq!(fs::read_to_string(file).unwrap(), before);
    holder.release();
    scene.aba(["lock", "--pid-file", file, "b", "--", "true"]).run();
}
