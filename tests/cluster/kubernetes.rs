//! The job for Kubernetes of `dist/kubernetes`: its call holds a lease while the job runs. Its schema is tested with those of the
//! service.

use crate::etcd::find_project;
use crate::machine::Machine;
use crate::service::LockService;

/// Returns the arguments of the container, and the variables of its environment.
fn read_job() -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string(find_project().join("dist/kubernetes/cronjob.yaml")).unwrap();
    let (mut args, mut variables) = (Vec::new(), Vec::new());
    let mut block = "";
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("- ") {
            Some(word) if block == "args:" => args.push(word.to_owned()),
            Some(entry) if block == "env:" => variables.extend(entry.strip_prefix("name: ").map(str::to_owned)),
            _ if line.ends_with(':') => block = line,
            _ => (),
        }
    }
    (args, variables)
}

#[test]
fn the_job_holds_a_lease_and_needs_no_home_directory() {
    let (args, variables) = read_job();
    assert_eq!(variables, ["ABA_LOCK_SERVER", "ABA_LOCK_SERVER_SECRET_FILE"]);
    let (command, call) = args.split_last().unwrap();
    assert_eq!(command, "/usr/local/bin/report");
    let holder = tempfile::tempdir().unwrap();
    let tokens = holder.path().join("tokens");
    std::fs::write(&tokens, "report lock:read,lock:write the-secret-of-the-job\n").unwrap();
    let service = LockService::start(&["--token-file", tokens.to_str().unwrap()]);
    let secret = holder.path().join("token");
    std::fs::write(&secret, "the-secret-of-the-job\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o440)).unwrap();
    let machine = Machine::new(&service.url())
        .with("HOME", "/nonexistent")
        .with("ABA_LOCK_DIR", "")
        .with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap());
    let report = "\"$HELPER\" lease show --json nightly-report; exit 3";
    let mut words: Vec<&str> = call.iter().map(String::as_str).collect();
    words.extend(["sh", "-c", report]);
    let said = machine.aba(&words).status(3);
    let shown: serde_json::Value = serde_json::from_str(said.out.trim()).unwrap();
    // The time to live of the job, and not that of the test.
    let left = shown["holder"]["ends_in_seconds"].as_u64().unwrap();
    assert!((31..=60).contains(&left), "{shown}");
    assert_eq!(machine.lease(&["show", "nightly-report"]).status, 1);
}
