//! Scripts as people write them for this API: `curl`, `jq -r .id`, a comparison with `null`, and a GET that unlocks. Each is
//! run while another has the lock, and while nobody has; and it leaves nothing held, however its work ends.

use crate::harness::Service;
use std::process::{Command, Stdio};

/// A script that deploys: it stops if somebody else does, and unlocks at its end, whatever that is.
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

/// The steps of a workflow: each is a shell of its own, and the last is run always.
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

/// The `sh` lines of a pipeline: what one prints is what the next gets.
const PIPELINE: &str = r#"
set -e
acquired=$(sh -c 'curl -s -X POST '"$LOCKS"'/api/v1alpha1/lock -H "Content-Type: application/json" -d "{\"service\":\"shop\",\"who\":\"pipeline\",\"environment\":\"production\",\"resource\":\"deployment\"}" | jq -r ".id"')
if test "$acquired" = null; then echo "could not get the lock"; exit 1; fi
status=0
sh -c "echo deploying; $WORK" || status=$?
sh -c "curl -s $LOCKS/api/v1alpha1/unlock/$acquired" > /dev/null
exit $status
"#;

/// The container of a job that is started again and again, and passes if another is at work.
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

fn runs(service: &Service, script: &str, work: &str) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.args(["60", "bash", "-c", script]).stdin(Stdio::null());
    let locks = format!("http://{}", service.rest);
    let output = command.env("LOCKS", locks).env("WORK", work).env_remove("http_proxy").output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn keeps_to_the_lock(script: &str) {
    let service = Service::new();
    // Free: it works, and then it is free again. Not "in progress" on a free lock, and no lock is left behind.
    for _ in 0..2 {
        assert_eq!(runs(&service, script, "true"), (Some(0), "deploying\n".to_owned()));
        assert!(service.found("").is_empty());
    }
    // So it is if its work fails.
    assert_eq!(runs(&service, script, "exit 7"), (Some(7), "deploying\n".to_owned()));
    assert!(service.found("").is_empty());
    // While it works, another does not.
    let address = format!("http://{}", service.rest);
    let other = format!(
        "curl -s -X POST {address}/api/v1alpha1/lock -d '{{\"service\":\"shop\",\"who\":\"x\",\"environment\":\"production\",\
         \"resource\":\"deployment\"}}' | jq -r .id"
    );
    assert_eq!(runs(&service, script, &other), (Some(0), "deploying\nnull\n".to_owned()));
    // Held: it does not work, and the other's lock is as it was.
    let wanted = r#"{"service":"shop","who":"ann","environment":"production","resource":"deployment"}"#;
    let id = service.call("POST", crate::harness::LOCK, wanted).id();
    let (status, said) = runs(&service, script, "true");
    assert_eq!(status, Some(1), "{said}");
    assert!(!said.contains("deploying"), "{said}");
    assert_eq!(service.found("")[0]["id"], id.as_str());
}

#[test]
fn a_script_that_deploys_keeps_to_the_lock() {
    keeps_to_the_lock(DEPLOY);
}

#[test]
fn the_steps_of_a_workflow_keep_to_the_lock() {
    keeps_to_the_lock(STEPS);
}

#[test]
fn the_lines_of_a_pipeline_keep_to_the_lock() {
    keeps_to_the_lock(PIPELINE);
}

#[test]
fn the_container_of_a_job_keeps_to_the_lock() {
    keeps_to_the_lock(JOB);
}
