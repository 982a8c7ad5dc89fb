//! `doctor`: the checks of the helper, the shell library, the completions, the variables, the limits and `/proc`.

use crate::doctor::{
    INSTALLED, doctor, doctor_after, doctor_with_fault, doctor_with_mounts, install, list_root, read_source,
};
use crate::process::{copy_program, write_program};
use crate::scene::{HELPER, Scene, error_text};
use std::fs;
use std::path::PathBuf;

#[test]
fn a_limit_of_open_files_too_low_for_the_library_is_wrong() {
    let scene = Scene::new();
    scene.make_root();
    let call = doctor_after(&scene, "ulimit -n 200", &[]).status(1);
    call.out("wrong  limits: ulimit -n is 200").out("fine   locking: ").out("1 thing is wrong").run();
    doctor_after(&scene, "ulimit -n 210", &[]).out("note   limits: ulimit -n is 210: a script can hold 10 locks").run();
    doctor_after(&scene, "ulimit -f 1", &[]).out("note   limits: ulimit -f ").run();
    // With very few descriptors, the possible checks are made nevertheless.
    for limit in 4..12 {
        let call = doctor_after(&scene, &format!("ulimit -n {limit}"), &[]).status(1);
        let said = call.out("wrong  limits: ").out("  state root: ").out("  locks: ").run().out;
        assert!(said.contains("fine   locking: ") || said.contains(&error_text(libc::EMFILE)), "{said}");
    }
}

#[test]
fn the_other_checks_run_without_proc() {
    let scene = Scene::new();
    scene.make_root();
    let call = doctor_with_mounts(&scene, "mount -t tmpfs x /proc").status(1);
    let said = call.out("wrong  /proc: not mounted: holders of locks are not shown").run().out;
    assert!(
        said.contains("note   locking: tested in ") && said.contains("the kernel does not show their holders"),
        "{said}"
    );
    assert!(list_root(&scene).is_empty(), "{:?}", list_root(&scene));
}

#[test]
fn the_proc_of_another_pid_namespace_is_wrong() {
    let scene = Scene::new();
    let script = "set -- unshare --user --map-root-user --pid --fork --kill-child -- \"$@\"";
    doctor_after(&scene, script, &[]).status(1).out("wrong  /proc: belongs to another pid namespace").run();
}

#[test]
fn an_exhausted_inotify_limit_is_worth_a_note() {
    let scene = Scene::new();
    let call = doctor_with_fault(&scene, &["-e", "inject=inotify_init1:error=EMFILE"]);
    call.out(format!("note   inotify: not available ({})", error_text(libc::EMFILE)))
        .out("fs.inotify.max_user_instances")
        .run();
}

#[test]
fn a_shell_library_of_another_version_is_wrong_and_a_changed_one_is_worth_a_note() {
    let scene = Scene::new();
    let library = install(&scene).join("share/aba-lock/aba-lock.bash");
    let version = format!("\n__aba_version={}\n", env!("CARGO_PKG_VERSION"));
    assert!(read_source("shell/aba-lock-fast.bash").contains(&version), "the library and the helper have one version");
    let text = read_source("shell/aba-lock.bash");
    assert!(text.contains(&version), "the library and the helper have one version");
    let whole = library.with_file_name("aba-lock-whole.bash");
    doctor(&scene).out(format!("fine   shell library: {} has version ", library.display())).run();
    fs::write(&whole, text.replace(&version, "\n__aba_version=0.0.9\n")).unwrap();
    doctor(&scene).status(1).out(format!("wrong  shell library: {} has version 0.0.9", whole.display())).run();
    fs::remove_file(&whole).unwrap();
    doctor(&scene).status(1).out(format!("wrong  shell library: cannot read {}", whole.display())).run();
    fs::write(&library, text.replace(&version, "\n__aba_version=0.0.9\n")).unwrap();
    let call = doctor(&scene).status(1).out("wrong  shell library: ");
    call.out(format!("has version 0.0.9, but this helper has {}", env!("CARGO_PKG_VERSION"))).run();
    fs::write(&library, text.replace(&version, "\n")).unwrap();
    doctor(&scene).status(1).out("names no version, so it is older than this helper").run();
    fs::write(&library, text.replacen("# How a script", "# how a script", 1)).unwrap();
    doctor(&scene).out("note   shell library: ").out("but its text differs").out("diff <(aba-lock init bash)").run();
    fs::remove_file(&library).unwrap();
    doctor(&scene).out("note   shell library: none is installed").run();
    // The output of `init` is the library, too.
    let text = scene.aba(["init", "bash"]).out("").run().out;
    fs::write(scene.path("copy.bash"), text).unwrap();
    let copy = scene.path("copy.bash").display().to_string();
    doctor_after(&scene, "", &["--library", &copy]).out(format!("fine   shell library: {copy} has version ")).run();
    doctor_after(&scene, "", &["--library", "/dev/null"]).status(1).out("/dev/null is not the shell library").run();
}

#[test]
fn a_library_for_another_shell_that_is_not_of_this_version_is_wrong() {
    let scene = Scene::new();
    let library = install(&scene).join("share/aba-lock/aba-lock.sh");
    let text = read_source("shell/aba-lock.sh");
    fs::write(&library, &text).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    doctor(&scene).out(format!("fine   shell library: {} has version {version}", library.display())).run();
    fs::write(&library, format!("{text}# changed\n")).unwrap();
    let call = doctor(&scene).status(1);
    call.out(format!("wrong  shell library: {} is not from this version", library.display())).run();
}

#[test]
fn a_script_that_sourced_another_version_of_the_library_is_wrong() {
    let scene = Scene::new();
    install(&scene);
    let call = doctor_after(&scene, "", &["--sourced", "0.0.9", "--library", "-"]).status(1);
    call.out("wrong  shell library: version 0.0.9 is sourced from `aba-lock init bash`, but this helper has version ")
        .run();
    let version = env!("CARGO_PKG_VERSION");
    doctor_after(&scene, "", &["--sourced", version])
        .out(format!("fine   shell library: version {version} is sourced from "))
        .run();
}

#[test]
fn another_helper_first_on_path_is_wrong() {
    let scene = Scene::new();
    install(&scene);
    let other = scene.path("other");
    fs::create_dir(&other).unwrap();
    let program = |text: &str| {
        let _ = fs::remove_file(other.join("aba-lock"));
        write_program(&other.join("aba-lock"), &format!("#!/bin/sh\n{text}\n"));
    };
    let path = other.display();
    program("echo aba-lock 0.0.9");
    let first = format!("PATH={path}:$PATH");
    let call = doctor_after(&scene, &first, &[]).status(1);
    call.out(format!(
        "wrong  helper: {path}/aba-lock, which scripts use because it is the first on PATH, has version 0.0.9"
    ))
    .run();
    // A helper later on PATH does not affect scripts.
    let last = format!("PATH=$PATH:{path}");
    doctor_after(&scene, &last, &[]).out(format!("note   helper: {path}/aba-lock on PATH has version 0.0.9")).run();
    // `--version` also prints the commit and the target.
    fs::remove_file(other.join("aba-lock")).unwrap();
    copy_program(HELPER, &other.join("aba-lock"));
    doctor_after(&scene, &first, &[]).out(format!("fine   helper: {path}/aba-lock on PATH has the same version")).run();
    program("echo aba-lock 0.0.9");
    // ABA_LOCK_BIN overrides PATH, even if it is wrong.
    let chosen = format!("{first}; export ABA_LOCK_BIN=$HELPER");
    doctor_after(&scene, &chosen, &[]).out("fine   helper: ABA_LOCK_BIN is ").out("note   helper: ").run();
    let chosen = format!("export ABA_LOCK_BIN={path}/aba-lock");
    doctor_after(&scene, &chosen, &[]).status(1).out("which has version 0.0.9").run();
    doctor_after(&scene, "export ABA_LOCK_BIN=/nowhere", &[]).status(1).out("which is not an executable file").run();
    // A program that never answers, and whose child keeps its output open.
    program("sleep 60 & wait");
    doctor_after(&scene, &first, &[]).status(1).out("prints no version").run();
}

#[test]
fn a_helper_that_is_not_on_path_is_worth_a_note() {
    let scene = Scene::new();
    let call = doctor_after(&scene, "PATH=/usr/bin:/bin", &[]);
    call.out("note   helper: aba-lock is not on PATH").out("export ABA_LOCK_BIN=").run();
}

#[test]
fn completions_that_are_missing_or_of_another_version_are_worth_a_note() {
    let scene = Scene::new();
    let prefix = install(&scene);
    doctor(&scene).out("fine   completions: bash: ").run();
    fs::remove_file(prefix.join("share/bash-completion/bash_completion")).unwrap();
    if !PathBuf::from("/etc/bash_completion").exists() {
        doctor(&scene)
            .out("note   completions: bash: ")
            .out("but bash-completion, which loads it, is not installed")
            .run();
    }
    fs::write(prefix.join(INSTALLED[1].1), "older").unwrap();
    doctor(&scene).out("note   completions: bash: ").out("is not from this version").run();
    fs::remove_file(prefix.join(INSTALLED[1].1)).unwrap();
    let command = doctor(&scene).out("note   completions: bash: not installed");
    command.out("source <(aba-lock completions bash)").run();
}

#[test]
fn completions_for_zsh_are_found_where_zsh_of_debian_looks() {
    let scene = Scene::new();
    let prefix = install(&scene);
    write_program(&prefix.join("bin/zsh"), "#!/bin/sh\n");
    doctor(&scene).out("fine   completions: zsh: ").out("zsh/site-functions/_aba-lock").run();
    fs::create_dir(prefix.join("share/zsh/vendor-completions")).unwrap();
    let place = prefix.join("share/zsh/vendor-completions/_aba-lock");
    fs::rename(prefix.join(INSTALLED[2].1), &place).unwrap();
    doctor(&scene).out(format!("fine   completions: zsh: {}", place.display())).run();
}

#[test]
fn invalid_environment_variables_are_wrong() {
    let scene = Scene::new();
    let call = doctor(&scene).env("ABA_LOCK_TIMEOUT", "soon").status(1);
    call.out("wrong  environment: ABA_LOCK_TIMEOUT is \"soon\"").out("ABA_LOCK_DIR=").run();
    let call = doctor(&scene).env("ABA_LOCK_ON_CONFLICT", "panic").status(1);
    call.out("wrong  environment: ABA_LOCK_ON_CONFLICT is \"panic\", which is not exit").run();
    let call = doctor(&scene).env("ABA_LOCK_FDS", "77");
    call.out("note   environment: ABA_LOCK_FDS names descriptors that are not open: 77").run();
    doctor(&scene).env("RUN_ONCE_DIR", "tasks").status(1).out("wrong  task root: RUN_ONCE_DIR is ").run();
}
