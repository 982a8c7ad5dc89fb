//! Typical scripts for this API: `curl`, `jq -r .id`, a comparison with `null`, and a GET request that unlocks. Each is
//! run with a free lock and with a held lock, and must release its lock even if its work fails.

use crate::harness::{LOCK, Service};
use std::process::{Command, Stdio};

/// A script that deploys. It exits if another deployment runs, and unlocks in a trap.
const DEPLOY: &str = r#"
set -u
answer=$(curl -s -X POST "$LOCKS/api/v1alpha1/lock" -H 'Content-Type: application/json' \
    -d '{"service":"shop","who":"deploy.sh","environment":"production","resource":"deployment"}')
id=$(echo "$answer" | jq -r '.id')
if [ "$id" = "null" ] || [ -z "$id" ]; then
    echo "another deployment is in progress: $(echo "$answer" | jq -r '.error')"
    exit 1
fi
trap 'curl -s "$LOCKS/api/v1alpha1/unlock/$id" >/dev/null' EXIT
echo "deploying"
eval "$WORK"
"#;

/// The steps of a CI workflow. Each runs in a shell of its own, and the last one runs always.
const STEPS: &str = r#"
set -e
outputs=$(mktemp)
step_lock() {
    response=$(curl -s -X POST "$LOCKS/api/v1alpha1/lock" -H "Content-Type: application/json" \
        -d "{\"service\": \"shop\", \"who\": \"actions\", \"environment\": \"production\", \"resource\": \"deployment\", \"event_id\": \"run-42\"}")
    lock_id=$(echo "$response" | jq -r '.id')
    if [ "$lock_id" == "null" ]; then
        echo "deployment already in progress"
        return 1
    fi
    echo "lock_id=$lock_id" >> "$outputs"
}
status=0
(step_lock) || status=$?
if [ $status -eq 0 ]; then
    echo "deploying"
    (eval "$WORK") || status=$?
fi
. "$outputs"
rm "$outputs"
if [ -n "${lock_id:-}" ]; then curl -s -X GET "$LOCKS/api/v1alpha1/unlock/$lock_id" > /dev/null; fi
exit $status
"#;

/// The `sh` steps of a pipeline, which pass on their output.
const PIPELINE: &str = r#"
set -e
acquired=$(sh -c 'curl -s -X POST '"$LOCKS"'/api/v1alpha1/lock -H "Content-Type: application/json" -d "{\"service\":\"shop\",\"who\":\"pipeline\",\"environment\":\"production\",\"resource\":\"deployment\"}" | jq -r ".id"')
if test "$acquired" = null; then echo "could not get the lock"; exit 1; fi
status=0
sh -c "echo deploying; $WORK" || status=$?
sh -c "curl -s $LOCKS/api/v1alpha1/unlock/$acquired" > /dev/null
exit $status
"#;

/// The container of a cron job, which skips its work if another one runs.
const JOB: &str = r#"
LOCK_RESPONSE=$(curl -s -X POST "$LOCKS/api/v1alpha1/lock" \
  -H "Content-Type: application/json" \
  -d '{"service":"shop","who":"cronjob","environment":"production","resource":"deployment"}')
LOCK_ID=$(echo $LOCK_RESPONSE | jq -r '.lock.id // .id')
if [ "$LOCK_ID" = "null" ]; then
  echo "skipped"
  exit 1
fi
cleanup() { curl -s "$LOCKS/api/v1alpha1/unlock/$LOCK_ID" > /dev/null; }
trap cleanup EXIT
echo "deploying"
eval "$WORK"
"#;

fn run_script(service: &Service, script: &str, work: &str) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.args(["60", "bash", "-c", script]).stdin(Stdio::null());
    let locks = format!("http://{}", service.rest);
    let output = command.env("LOCKS", locks).env("WORK", work).env_remove("http_proxy").output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn check_script(script: &str) {
    let service = Service::new();
    // With a free lock, the script does its work and releases the lock.
    for _ in 0..2 {
        assert_eq!(run_script(&service, script, "true"), (Some(0), "deploying\n".to_owned()));
        assert!(service.list("").is_empty());
    }
    // It also releases the lock if its work fails.
    assert_eq!(run_script(&service, script, "exit 7"), (Some(7), "deploying\n".to_owned()));
    assert!(service.list("").is_empty());
    // While it works, another caller does not get the lock.
    let address = format!("http://{}", service.rest);
    let other = format!(
        "curl -s -X POST {address}/api/v1alpha1/lock -d '{{\"service\":\"shop\",\"who\":\"x\",\"environment\":\"production\",\
         \"resource\":\"deployment\"}}' | jq -r .id"
    );
    assert_eq!(run_script(&service, script, &other), (Some(0), "deploying\nnull\n".to_owned()));
    // With a held lock, it does not do its work, and does not release the lock.
    let body = r#"{"service":"shop","who":"ann","environment":"production","resource":"deployment"}"#;
    let id = service.call("POST", LOCK, body).id();
    let (status, output) = run_script(&service, script, "true");
    assert_eq!(status, Some(1), "{output}");
    assert!(!output.contains("deploying"), "{output}");
    assert_eq!(service.list("")[0]["id"], id.as_str());
}

#[test]
fn a_deployment_script_respects_the_lock() {
    check_script(DEPLOY);
}

#[test]
fn the_steps_of_a_workflow_respect_the_lock() {
    check_script(STEPS);
}

#[test]
fn the_steps_of_a_pipeline_respect_the_lock() {
    check_script(PIPELINE);
}

#[test]
fn the_container_of_a_job_respects_the_lock() {
    check_script(JOB);
}
