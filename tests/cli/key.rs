//! `--key TEXT`: any text as the name of a lock.

use crate::scene::{HELPER, HOLD, Scene};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

const URL: &str = "https://example.org/a b?c=1";
const NAME: &str = "https-example.org-a-b-c-1+2abe41fe3e253c998875b92921a4fc7434e73931";

#[test]
fn a_text_excludes_only_itself() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--key", URL]);
    let refused = format!("aba-lock: {URL} is already running: pid {} (", holder.pid());
    let hint = format!("show its holder with `aba-lock status {NAME}`\n");
    scene.aba(["lock", "--key", URL, "--", "true"]).status(75).err(refused).err(hint).run();
    scene.aba(["lock", NAME, "--", "true"]).status(75).err(NAME).run();
    scene.aba(["lock", "--key", &format!("{URL} "), "--key", &URL[1..], "a", "--", "true"]).run();
    scene.aba(["unlock", "--key", URL]).status(75).err(URL).run();
    let said = format!("timed out after 0.1 s waiting for {URL}, held by ");
    scene.aba(["wait", "--key", URL, "-t", "0.1"]).status(124).err(said).run();
    scene.aba(["wait", "--any", "--key", URL, "--key", "b c"]).out("b c\n").run();
    scene.aba(["unlock", "--kill", "--key", URL]).err("ended pid ").run();
    drop(holder);
    scene.aba(["lock", "--key", URL, "--", "true"]).run();
}

#[test]
fn the_name_of_a_text_is_that_of_sha256sum() {
    let scene = Scene::new();
    scene.aba(["path", "--name", "--key", URL]).out(format!("{NAME}\n")).run();
    scene.aba(["path", "--key", URL]).out(format!("{}\n", scene.lock_file(NAME).display())).run();
    let script = format!("printf %s '{URL}' | sha256sum | cut -c 1-40");
    scene.bash(&script).out(NAME.split_once('+').unwrap().1).run();
}

#[test]
fn the_text_is_in_the_record_the_lists_and_the_event_log() {
    let scene = Scene::new();
    let log = scene.path("log");
    let holder = scene.aba(["lock", "--key", URL, "--", "sh", "-c", HOLD]).env("ABA_LOCK_LOG", &log).hold();
    assert_eq!(scene.field(NAME, "key"), format!("'{URL}'"));
    scene.aba(["list"]).out(format!("\n{URL}  held ")).run();
    scene.aba(["status", "--key", URL]).out(format!("{URL}: held, ")).out(format!("\n  name: {NAME}\n")).run();
    scene.aba(["status", NAME]).out(format!("{NAME}: held, ")).out(format!("\n  key: {URL}\n")).run();
    let found = scene.aba(["status", "--json", "--key", URL]).json();
    assert!(found["key"] == URL && found["name"] == NAME && found["state"] == "held", "{found}");
    assert_eq!(scene.aba(["list", "--json"]).json()["locks"][0]["key"], URL);
    let event: serde_json::Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert!(event["key"] == URL && event["lock"] == NAME && event["event"] == "acquired", "{event}");
    holder.release();
    scene.aba(["lock", "a", "--", "true"]).run();
    assert!(scene.aba(["status", "--json", "a"]).status(1).json()["key"].is_null());
}

#[test]
fn a_text_with_control_characters_or_bytes_that_are_no_text_is_shown_as_bash_reads_it() {
    let scene = Scene::new();
    let wild = OsStr::from_bytes(b"a\n\x1b[2J'\xff");
    let shown = r"$'a\n\x1b[2J\'\xff'";
    let holder = scene.aba(["lock", "--key"]).arg(wild).args(["--", "sh", "-c", HOLD]).hold();
    scene.aba(["status", "--key"]).arg(wild).out(format!("{shown}: held, ")).run();
    scene.aba(["list"]).out(format!("{shown}  held ")).run();
    assert_eq!(scene.aba(["list", "--json"]).json()["locks"][0]["key"], shown);
    scene
        .aba(["lock", "--key"])
        .arg(wild)
        .args(["--", "true"])
        .status(75)
        .err(format!("{shown} is already running"))
        .run();
    // The shown text can be typed.
    scene.bash(&format!("\"$HELPER\" status -q --key {shown}")).run();
    scene.bash(&format!("\"$HELPER\" status -q --key {shown}x")).status(1).run();
    holder.release();
}

#[test]
fn a_long_text_is_cut_in_the_record_and_in_messages_but_not_in_the_name() {
    let scene = Scene::new();
    for letter in ["x", "'", "é"] {
        let long = letter.repeat(30_000);
        let holder = scene.holder_with(&["--key", &long]);
        let found = scene.aba(["status", "--json", "--key", &long]).json();
        assert!(found["state"] == "held" && found["holders"][0]["pid"] == holder.pid(), "{letter}");
        assert_eq!(found["record"]["holder"], "alive");
        let name = found["name"].as_str().unwrap();
        let found = scene.aba(["status", "--json", name]).json();
        assert!(found["key"].as_str().is_some_and(|key| key.len() < 520 && key.ends_with('…')), "{found}");
        let said = scene.aba(["lock", "--key", &long, "--", "true"]).status(75).err("… is already running").run().err;
        assert!(said.len() < 1000, "{said}");
        scene.aba(["lock", "--key", &long[2..], "--", "true"]).run();
        holder.release();
    }
}

#[test]
fn an_empty_text_is_refused_and_so_is_a_text_next_to_a_file() {
    let scene = Scene::new();
    let empty = "aba-lock: the text of --key is empty\n";
    for command in ["lock", "unlock", "status", "wait", "path", "run-once"] {
        let call = scene.aba([command, "--key", ""]);
        let call = if command == "lock" { call.args(["--", "true"]) } else { call };
        call.status(2).err(empty).run();
    }
    for command in ["status", "wait"] {
        scene.aba([command, "--key", "a", "--file", "b"]).status(2).err("cannot be used with").run();
    }
    scene.aba(["lock", "--key", "a", "--file", "b", "--", "true"]).status(2).err("cannot be used with").run();
    scene.aba(["status", "--key", "a", "a"]).status(2).err("cannot be used with").run();
    scene.aba(["lock", "--key=-x", "--", "true"]).run();
    let hint = "hint: to use any text as the name, use `--key 'https://h/?a=b'`\n";
    scene.aba(["lock", "https://h/?a=b", "--", "true"]).status(2).err(hint).run();
}

#[test]
fn a_script_locks_a_text_on_a_descriptor() {
    let scene = Scene::new();
    let script = "exec 200<>\"$(\"$HELPER\" path --create --key 'a b')\" 201<>\"$(\"$HELPER\" path --create c)\"
        \"$HELPER\" lock --fd 201 --fd 200 c --key 'a b' || exit
        \"$HELPER\" status -q --key 'a b' && \"$HELPER\" status -q c || exit
        \"$HELPER\" unlock --fd 200 --key 'a b' || exit
        ! \"$HELPER\" status -q --key 'a b' || exit
        \"$HELPER\" lock --fd 201 --key 'a b'";
    scene.bash(script).status(76).err("file descriptor 201 is not open on lock file ").run();
}

#[test]
fn the_command_of_on_busy_gets_the_name() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--key", URL]);
    let said = format!("{URL} is already running");
    let call = scene.aba(["lock", "--on-busy", "echo $1", "--key", URL, "--", "true"]);
    call.out(format!("{NAME}\n")).err(said).run();
    holder.release();
}

#[test]
fn a_wait_for_the_own_text_is_refused() {
    let scene = Scene::new();
    let wait = ["--", HELPER, "wait", "--key", URL];
    scene.aba(["lock", "--key", URL]).args(wait).status(75).err("would be a deadlock").run();
}

#[test]
fn a_task_can_have_a_text_as_its_id() {
    let scene = Scene::new();
    scene.once(["-w", "--key", URL, "--", "echo", "done"]).out("done\n").run();
    scene.once(["-o", "--key", URL]).out("done\n").run();
    scene.once(["-p", "-i", NAME]).run();
    scene.once(["-p", "--key", &URL[1..]]).status(1).run();
    scene.once(["--list"]).out(format!("\n{URL}  succeeded ")).run();
    scene.aba(["list"]).out(format!("\n{URL}  succeeded ")).run();
    let task = scene.once(["--json", "--key", URL]).json()[0].clone();
    assert_eq!((&task["key"], &task["id"]), (&URL.into(), &NAME.into()));
    assert_eq!(scene.aba(["list", "--json"]).json()["tasks"][0]["key"], URL);
    scene.once(["-p", "--key", URL, "-i", "a"]).status(2).err("cannot be used with").run();
}

#[test]
fn the_list_of_tasks_shows_the_text_as_long_as_the_task_is_known() {
    let scene = Scene::new();
    let shown = || scene.once(["--json", "-i", NAME]).json()[0]["key"].clone();
    // A call with the id alone does not forget the text.
    scene.once(["-w", "--key", URL, "--", "true"]).run();
    scene.once(["-wi", NAME, "--validate"]).run();
    scene.once(["-wi", NAME, "-t", "0", "--", "sh", "-c", "kill $$"]).status(143).err("was interrupted").run();
    scene.once(["-w", "--key", URL, "--", "sh", "-c", "exit 3"]).status(3).err("failed").run();
    assert_eq!(shown(), URL);
    scene.once(["-ri", NAME]).run();
    scene.once(["-wi", NAME, "--", "true"]).run();
    assert!(shown().is_null());
    scene.once(["-ri", NAME]).run();
    // A command that was not found had no supervisor.
    scene.once(["-w", "--key", URL, "--", "/missing"]).status(127).err("not found").run();
    assert_eq!(shown(), URL);
    scene.once(["-wi", "a", "--", "true"]).run();
    assert!(scene.once(["--json", "-i", "a"]).json()[0]["key"].is_null());
    // A long text leaves room for the other columns.
    let long = format!("https://example.org/{}", "x".repeat(200));
    scene.once(["-w", "--key", &long, "--", "true"]).run();
    scene.once(["--list"]).out(format!("\n{}…  succeeded ", &long[..40])).run();
    scene.aba(["lock", "--key", &long, "--", "true"]).run();
    scene.aba(["list"]).out(format!("\n{}…  free ", &long[..40])).run();
}

#[test]
fn a_call_with_the_derived_name_keeps_the_text() {
    let scene = Scene::new();
    let shown = || scene.aba(["status", "--json", NAME]).status(1).json()["key"].clone();
    scene.aba(["lock", NAME, "--", "true"]).run();
    assert!(shown().is_null());
    scene.aba(["lock", "--key", URL, "--", "true"]).run();
    for call in [&["lock", NAME][..], &["lock", "-s", NAME], &["lock", "--max-time", "1h", NAME]] {
        scene.aba(call).args(["--", "true"]).run();
        assert_eq!(shown(), URL, "{call:?}");
    }
    scene.bash_with_library(&format!("aba_lock_operation {NAME}; aba_unlock_operation {NAME}")).run();
    assert_eq!(shown(), URL);
}

#[test]
fn completion_offers_the_texts_of_locks_that_need_no_quotes() {
    let scene = Scene::new();
    for text in ["https://example.org/a", "with blank", "$'x'"] {
        scene.aba(["lock", "--key", text, "--", "true"]).run();
    }
    let complete = scene.aba(["--", "aba-lock", "status", "--key", ""]).env("ABA_LOCK_COMPLETE", "bash");
    let out = complete.env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n").out("").run().out;
    assert_eq!(out, "https://example.org/a");
    for text in ["https://example.org/b", "with blank"] {
        scene.once(["-w", "--key", text, "--", "true"]).run();
    }
    let complete = scene.aba(["--", "aba-lock", "run-once", "--key", ""]).env("ABA_LOCK_COMPLETE", "bash");
    let out = complete.env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n").out("").run().out;
    assert_eq!(out, "https://example.org/b");
}
