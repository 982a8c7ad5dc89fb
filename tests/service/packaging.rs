//! The systemd unit and the container file that are shipped, and the messages for systemd and for the log.

use crate::harness::{PROGRAM, Service, Start, write_file};
use crate::http::TIMEOUT;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;

fn dist(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dist").join(name)
}

/// Checks that the program accepts these arguments.
fn expect_valid_arguments(words: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    // The store is replaced, because the test must not use that of the machine.
    let words: Vec<String> = words
        .iter()
        .map(|word| match *word {
            word if word.starts_with("sqlite:/") => format!("sqlite:{}/no/lockd.db", missing.display()),
            word => word.to_owned(),
        })
        .collect();
    fs::OpenOptions::new().create_new(true).write(true).open(&missing).unwrap();
    let output = Command::new("timeout").arg("60").arg(PROGRAM).args(&words).output().unwrap();
    // The service could not create its store, or read its tokens, so it has accepted the arguments.
    assert_eq!(output.status.code(), Some(125), "{words:?}: {output:?}");
}

#[test]
fn the_unit_starts_the_service_with_valid_arguments() {
    let unit = fs::read_to_string(dist("aba-lockd.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let program = line.strip_suffix(" serve --store ${STORE} $OPTIONS").unwrap();
    assert_eq!(program, "/usr/local/bin/aba-lockd");
    // The store is in the state directory of the unit.
    let store =
        unit.lines().find_map(|line| line.strip_prefix("Environment=STORE=")?.strip_suffix(" OPTIONS=")).unwrap();
    assert!(store.starts_with("sqlite:/var/lib/aba-lockd/"), "{store}");
    expect_valid_arguments(&["serve", "--store", store]);
    for needed in ["[Unit]", "[Service]", "[Install]", "Type=notify", "DynamicUser=yes", "StateDirectory=aba-lockd"] {
        assert!(unit.lines().any(|line| line == needed), "{needed}");
    }
    assert!(unit.lines().any(|line| line == "EnvironmentFile=-/etc/aba-lockd/options"));
}

#[test]
fn the_examples_in_the_file_of_settings_are_valid() {
    let text = fs::read_to_string(dist("options")).unwrap();
    let settings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let read = |name: &str| settings.iter().copied().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>();
    let (stores, options) = (read("STORE="), read("OPTIONS="));
    assert_eq!((stores.len(), options.len()), (2, 1));
    // The first store is the one of the unit.
    let unit = fs::read_to_string(dist("aba-lockd.service")).unwrap();
    assert!(unit.contains(&format!("Environment=STORE={} ", stores[0])));
    let mut words = vec!["serve", "--store", stores[0]];
    words.extend(options[0].split(' '));
    expect_valid_arguments(&words);
}

/// Returns the lines of the example in the comment of the unit.
fn read_example() -> Vec<String> {
    let unit = fs::read_to_string(dist("aba-lockd.service")).unwrap();
    let lines: Vec<String> = unit.lines().filter_map(|line| line.strip_prefix("#   ")).map(str::to_owned).collect();
    assert_eq!(lines[0], "[Service]");
    lines
}

#[test]
fn the_example_in_the_unit_loads_each_file_that_it_uses() {
    let example = read_example();
    let command = example.iter().rev().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let loaded: Vec<String> = example
        .iter()
        .filter_map(|line| line.strip_prefix("LoadCredential="))
        .map(|line| format!("${{CREDENTIALS_DIRECTORY}}/{}", line.split(':').next().unwrap()))
        .collect();
    let words: Vec<&str> = command.split(' ').collect();
    let used: Vec<&str> = words.iter().copied().filter(|word| word.starts_with("${")).collect();
    assert_eq!(used, loaded);
    expect_valid_arguments(&words[1..]);
}

#[test]
fn systemd_accepts_the_unit() {
    // Skipped on machines without systemd.
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else { return };
    assert!(version.status.success());
    let directory = tempfile::tempdir().unwrap();
    let unit = fs::read_to_string(dist("aba-lockd.service")).unwrap().replace("/usr/local/bin/aba-lockd", PROGRAM);
    let with_example = unit.replace("[Install]", &format!("{}\n[Install]", read_example().join("\n")));
    for unit in [&unit, &with_example.replace("/usr/local/bin/aba-lockd", PROGRAM)] {
        let file = directory.path().join("aba-lockd.service");
        write_file(&file, unit);
        let output =
            Command::new("timeout").args(["60", "systemd-analyze", "verify", "--man=no"]).arg(&file).output().unwrap();
        let output = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = output.lines().filter(|line| line.contains("aba-lockd")).collect();
        assert!(ours.is_empty(), "{output}");
    }
}

#[test]
fn the_container_file_starts_the_service_with_valid_arguments() {
    let text = fs::read_to_string(dist("Containerfile")).unwrap();
    let mut stages = Vec::new();
    let mut command = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "FROM" => stages.push(rest.to_owned()),
            "CMD" => command = Some(serde_json::from_str::<Vec<String>>(rest).unwrap()),
            "ENTRYPOINT" | "VOLUME" => drop(serde_json::from_str::<Vec<String>>(rest).unwrap()),
            "COPY" | "EXPOSE" | "STOPSIGNAL" => (),
            "USER" => assert_eq!(rest, "65532:65532"),
            other => panic!("the test does not know the instruction {other}"),
        }
    }
    // Nothing is fetched.
    assert_eq!(stages, ["scratch"]);
    let command = command.unwrap();
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    expect_valid_arguments(&words);
    assert!(words.contains(&"--token-file"), "other machines reach the container");
}

#[test]
fn systemd_is_notified_when_the_service_is_ready_reloads_and_stops() {
    let start = Start::new();
    let path = start.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut service: Service = start.environment("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    let receive = || {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!(receive(), "READY=1");
    service.signal("HUP");
    assert_eq!((receive(), receive()), ("RELOADING=1".to_owned(), "READY=1".to_owned()));
    service.signal("TERM");
    assert_eq!(receive(), "STOPPING=1");
    assert_eq!(service.wait_for_exit().code(), Some(0));
}

#[test]
fn the_log_has_a_line_of_json_for_each_event() {
    let mut service = Service::new();
    let id = service.acquire("db", "ann");
    service.request("db", "bob", "").expect_refusal(409, 6);
    service.unlock(&id).ok();
    service.terminate();
    let lines: Vec<serde_json::Value> =
        service.log().iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    // Calls that change nothing are not logged.
    assert_eq!(events, ["started", "create", "unlock", "stopping", "stopped"]);
    for line in &lines {
        line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(line["level"], "info");
    }
    assert_eq!((&lines[2]["id"], &lines[2]["who"]), (&lines[1]["id"], &serde_json::json!("ann")));
    assert!(lines[1]["from"].as_str().unwrap().starts_with("127.0.0.1:"));
}
