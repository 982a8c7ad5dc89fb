//! The files for CI runners in `dist/action` and `dist/ci`. Each test extracts scripts from a file, and runs them as the runner would,
//! against a lock service with tokens.

use crate::etcd::find_project;
use crate::machine::{Machine, find_helper};
use crate::process::{Outcome, RunningScript, is_alive, run_to_end, send_signal, wait_until};
use crate::service::{LockService, set_mode};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const TOKEN: &str = "token-of-the-ci-system-1";

/// A runner of CI jobs, and the lock service that its jobs use.
struct Runner {
    service: LockService,
    machine: Machine,
    _tokens: tempfile::TempDir,
}

/// A step of a composite action.
#[derive(Default)]
struct ActionStep {
    condition: String,
    environment: Vec<(String, String)>,
    script: String,
}

/// The parts of a composite action that a runner needs.
#[derive(Default)]
struct Action {
    /// The inputs, with their default values.
    inputs: Vec<(String, String)>,
    steps: Vec<ActionStep>,
}

fn read_file(path: &str) -> String {
    fs::read_to_string(find_project().join("dist").join(path)).unwrap()
}

/// Returns the indentation of a line, and its text.
fn split_indent(line: &str) -> (usize, &str) {
    let text = line.trim_start();
    (line.len() - text.len(), text.trim_end())
}

/// Returns the blocks (`|`) that follow lines that `is_head` accepts, without their indentation.
fn read_blocks(text: &str, is_head: impl Fn(&str) -> bool) -> Vec<String> {
    let (mut blocks, mut lines) = (Vec::new(), text.lines().peekable());
    while let Some(line) = lines.next() {
        let (indent, head) = split_indent(line);
        if !is_head(head) {
            continue;
        }
        let mut block: Vec<&str> = Vec::new();
        while let Some(line) = lines.next_if(|line| line.trim().is_empty() || split_indent(line).0 > indent) {
            block.push(line);
        }
        let inner = block.iter().filter(|line| !line.trim().is_empty()).map(|line| split_indent(line).0).min().unwrap();
        let lines: Vec<&str> = block.iter().map(|line| line.get(inner..).unwrap_or_default()).collect();
        blocks.push(lines.join("\n") + "\n");
    }
    blocks
}

impl Action {
    fn read(path: &str) -> Self {
        let text = read_file(path);
        let mut action = Self::default();
        let (inputs, rest) = text.split_once("\ninputs:\n").unwrap().1.split_once("\nruns:\n").unwrap();
        for line in inputs.split("\noutputs:\n").next().unwrap().lines() {
            match split_indent(line) {
                (2, name) => action.inputs.push((name.trim_end_matches(':').to_owned(), String::new())),
                (4, text) => {
                    if let (Some(value), Some(input)) = (text.strip_prefix("default: "), action.inputs.last_mut()) {
                        value.trim_matches('\'').clone_into(&mut input.1);
                    }
                }
                line => panic!("unexpected line: {line:?}"),
            }
        }
        assert!(rest.starts_with("  using: composite\n  steps:\n"));
        for step in rest.split("\n    - id: ").skip(1) {
            let mut found =
                ActionStep { script: read_blocks(step, |head| head == "run: |").remove(0), ..ActionStep::default() };
            assert!(step.contains("\n      shell: bash\n"));
            for (indent, text) in step.lines().map(split_indent) {
                match (indent, text.split_once(": ")) {
                    (6, Some(("if", condition))) => condition.clone_into(&mut found.condition),
                    (8, Some((name, value))) if value.starts_with("${{ ") => {
                        found.environment.push((name.to_owned(), value.to_owned()));
                    }
                    _ => {}
                }
            }
            // An expression in a script would let an input change the script.
            assert!(!found.script.contains("${{"), "{}", found.script);
            action.steps.push(found);
        }
        action
    }

    /// Returns the value of an expression such as `${{ inputs.name }}`.
    fn evaluate(&self, expression: &str, given: &[(&str, &str)]) -> String {
        let name = expression.trim_start_matches("${{ ").trim_end_matches(" }}").strip_prefix("inputs.").unwrap();
        let default = self.inputs.iter().find(|(input, _)| input == name).unwrap_or_else(|| panic!("no input {name}"));
        given
            .iter()
            .rfind(|(input, _)| *input == name)
            .map_or_else(|| default.1.clone(), |(_, value)| (*value).to_owned())
    }

    /// Returns the step whose condition is true.
    fn choose_step(&self, given: &[(&str, &str)]) -> &ActionStep {
        let run = || self.evaluate("${{ inputs.run }}", given);
        let mut chosen = self.steps.iter().filter(|step| match &*step.condition {
            "inputs.run != ''" => !run().is_empty(),
            "inputs.run == ''" => run().is_empty(),
            "" => true,
            condition => panic!("unknown condition: {condition}"),
        });
        let step = chosen.next().unwrap();
        assert!(chosen.next().is_none());
        step
    }
}

impl Runner {
    fn new() -> Self {
        let tokens = tempfile::tempdir().unwrap();
        let file = tokens.path().join("tokens");
        fs::write(&file, format!("ci lock:read,lock:write {TOKEN}\n")).unwrap();
        set_mode(&file, 0o600);
        let service = LockService::start(&["--token-file", file.to_str().unwrap()]);
        let machine = Machine::new(&service.url());
        for name in ["bin", "temp", "tool"] {
            fs::create_dir(machine.path(name)).unwrap();
        }
        std::os::unix::fs::symlink(find_helper(), machine.path("bin/aba-lock")).unwrap();
        let secret = machine.path("secret");
        fs::write(&secret, TOKEN).unwrap();
        set_mode(&secret, 0o600);
        Self { service, machine, _tokens: tokens }
    }

    /// A command on the machine of the runner, without the settings that the CI files must make.
    fn program(&self, program: &str) -> Command {
        let mut command = self.machine.program(program);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        for name in ["ABA_LOCK_SERVER", "ABA_LOCK_SERVER_SECRET_FILE", "ABA_LOCK_TTL", "HELPER", "ABA_LOCK_BIN"] {
            command.env_remove(name);
        }
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.machine.path(name)
    }

    /// A step of a workflow that uses an action with these inputs.
    fn github_step(&self, path: &str, given: &[(&str, &str)]) -> Command {
        let action = Action::read(path);
        let url = self.service.url();
        let given = [&[("server", &*url), ("token", TOKEN)], given].concat();
        let step = action.choose_step(&given);
        let script = self.path("temp/step.sh");
        fs::write(&script, &step.script).unwrap();
        let mut command = self.program("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(script);
        for (name, expression) in &step.environment {
            command.env(name, action.evaluate(expression, &given));
        }
        command.env("RUNNER_TEMP", self.path("temp")).env("GITHUB_OUTPUT", self.path("output"));
        command.env("GITHUB_SERVER_URL", "https://github.example.org").env("GITHUB_REPOSITORY", "team/shop");
        command.env("GITHUB_RUN_ID", "4711").env("GITHUB_JOB", "deploy");
        command
    }

    /// A command that uses the lock service with the token.
    fn lease(&self, args: &[&str]) -> Outcome {
        let mut command = self.program("aba-lock");
        command.arg("lease").args(args).env("ABA_LOCK_SERVER", self.service.url());
        run_to_end(command.env("ABA_LOCK_SERVER_SECRET_FILE", self.path("secret")))
    }

    fn is_free(&self, name: &str) -> bool {
        self.lease(&["show", name]).status == 1
    }

    fn has_waiter(&self, name: &str) -> bool {
        self.lease(&["show", name]).out.contains("1. waits: ")
    }

    /// Returns the output of a step.
    fn read_output(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path("output")).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    }
}

const ACTION: &str = "action/action.yml";
const RELEASE: &str = "action/release/action.yml";

#[test]
fn the_action_runs_commands_with_the_lock_and_hides_the_token_from_them() {
    let runner = Runner::new();
    let url = runner.service.url();
    let commands = format!(
        "secret='{}'
        ABA_LOCK_SERVER_SECRET_FILE=$secret aba-lock lease show deploy
        echo \"token $ABA_LOCK_TOKEN at $ABA_LOCK_SERVER\"
        env | grep -e ABA_ACTION -e SECRET -e 'token[-]of' || echo clean
        grep -rl 'token[-]of' \"$RUNNER_TEMP\" || echo no file
        tr '\\0' ' ' </proc/$PPID/cmdline | grep 'token[-]of' || echo no argument
        false | true; echo not reached",
        runner.path("secret").display()
    );
    let said =
        run_to_end(&mut runner.github_step(ACTION, &[("name", "deploy"), ("run", &commands)])).status(1).silent();
    assert!(said.out.contains("deploy: held at "), "{said:?}");
    assert!(said.out.contains("(job deploy of https://github.example.org/team/shop/actions/runs/4711)"), "{said:?}");
    assert!(said.out.ends_with(&format!(" at {url}\nclean\nno file\nno argument\n")), "{said:?}");
    assert!(!said.out.contains(TOKEN) && runner.is_free("deploy"));
    run_to_end(&mut runner.github_step(ACTION, &[("name", "deploy"), ("run", "exit 7")])).status(7).silent();
    let with_slots = [("name", "deploy"), ("slots", "2"), ("run", "echo \"slot $ABA_LOCK_SLOT\"")];
    assert_eq!(run_to_end(&mut runner.github_step(ACTION, &with_slots)).status(0).silent().out, "slot 1\n");
    let shared = [
        ("name", "deploy"),
        ("shared", "true"),
        ("run", "ABA_LOCK_SERVER_SECRET_FILE=secret aba-lock lease show deploy"),
    ];
    run_to_end(&mut runner.github_step(ACTION, &shared)).status(0).out("(shared)");
}

#[test]
fn the_action_refuses_wrong_inputs_with_a_reason() {
    let runner = Runner::new();
    let wrong = [("name", "--on-lost=true"), ("run", "echo ran")];
    let said = run_to_end(&mut runner.github_step(ACTION, &wrong)).status(2);
    assert_eq!(said.out, "::error::the name of a lock cannot begin with -\n");
    run_to_end(&mut runner.github_step(ACTION, &[("name", "a b"), ("run", "echo ran")]))
        .status(2)
        .err("\"a b\"")
        .out("");
    run_to_end(&mut runner.github_step(ACTION, &[("name", "deploy"), ("max-wait", "soon")])).status(2).err("soon");
    let other = [("name", "deploy"), ("token", "another-token-that-is-unknown"), ("run", "echo ran")];
    run_to_end(&mut runner.github_step(ACTION, &other)).status(125).err("the lock service refused the request: ");
    for given in [&[("name", "deploy"), ("run", "echo ran")][..], &[("name", "deploy")]] {
        let mut step = runner.github_step(ACTION, given);
        fs::create_dir_all(runner.path("empty")).unwrap();
        for program in ["bash", "env"] {
            let _ = std::os::unix::fs::symlink(format!("/usr/bin/{program}"), runner.path("empty").join(program));
        }
        step.env("PATH", runner.path("empty"));
        run_to_end(&mut step).status(127).out("::error::aba-lock is not installed on this runner: ");
    }
}

#[test]
fn the_action_names_the_holder_while_it_waits_and_when_it_fails() {
    let runner = Runner::new();
    runner.lease(&["acquire", "--ttl", "1h", "--who", "the nightly build", "deploy"]).status(0);
    for given in [&[("run", "echo ran")][..], &[]] {
        let given = [&[("name", "deploy"), ("max-wait", "4s")], given].concat();
        let said = run_to_end(&mut runner.github_step(ACTION, &given)).status(124);
        assert!(said.err.starts_with("aba-lock: waiting for deploy at "), "{said:?}");
        assert!(said.err.contains("aba-lock: timed out waiting for deploy, held by pid "), "{said:?}");
        assert_eq!((said.err.matches("(the nightly build)").count(), &*said.out), (2, ""), "{said:?}");
        assert_eq!(runner.read_output("lease"), "");
    }
}

#[test]
fn a_cancelled_action_ends_its_commands_and_releases_the_lock() {
    let runner = Runner::new();
    // The runner sends SIGINT to the process that it has started. If that process does not end, SIGTERM follows, and then SIGKILL.
    for (commands, signals, status) in [
        ("bash -c 'echo $$; exec sleep 1000'; echo went on", &["INT"][..], 130),
        ("bash -c 'trap \"echo saved; exit 3\" INT; echo $$; while :; do sleep 0.05; done'", &["INT"], 3),
        ("trap '' INT; bash -c 'echo $$; exec sleep 1000'; echo went on", &["INT", "TERM"], 143),
    ] {
        let mut step = RunningScript::start(runner.github_step(ACTION, &[("name", "deploy"), ("run", commands)]));
        let command: u32 = step.read_line().parse().unwrap();
        for signal in signals {
            assert!(step.is_running());
            send_signal(step.pid(), signal);
        }
        assert_eq!(step.wait(), status, "{commands}");
        wait_until("the command has ended", || !is_alive(command));
        assert!(runner.is_free("deploy"), "{commands}");
        assert_ne!(step.try_read_line().as_deref(), Some("went on"));
    }
    // During the wait.
    let held = runner.lease(&["acquire", "--ttl", "1h", "deploy"]).status(0).out;
    for given in [&[("run", "echo ran")][..], &[]] {
        let given = [&[("name", "deploy")], given].concat();
        let mut step = RunningScript::start(runner.github_step(ACTION, &given));
        assert!(step.read_error().contains("waiting for deploy"));
        wait_until("the step is in the queue", || runner.has_waiter("deploy"));
        send_signal(step.pid(), "INT");
        assert_eq!(step.wait(), 130);
        wait_until("the step has left the queue", || !runner.has_waiter("deploy"));
    }
    runner.lease(&["release", held.trim()]).status(0);
    assert!(runner.is_free("deploy"));
}

#[test]
fn the_actions_hold_a_lock_over_several_steps() {
    let runner = Runner::new();
    run_to_end(&mut runner.github_step(ACTION, &[("name", "deploy")])).status(0).silent();
    let lease = runner.read_output("lease");
    let shown: serde_json::Value = serde_json::from_str(&runner.lease(&["show", "deploy", "--json"]).out).unwrap();
    assert_eq!(shown["holder"]["lease"], *lease);
    assert_eq!(shown["holder"]["token"].to_string(), runner.read_output("fencing_token"));
    assert!(shown["holder"]["ends_in_seconds"].as_u64().unwrap() > 5 * 3600, "{shown}");
    // Another job waits, and gets the lock.
    let mut other = RunningScript::start(runner.github_step(ACTION, &[("name", "deploy"), ("run", "echo ran")]));
    assert!(other.read_error().contains("(job deploy of https://github.example.org/team/shop/actions/runs/4711)"));
    run_to_end(&mut runner.github_step(RELEASE, &[("lease", &lease)])).status(0).silent();
    assert_eq!((other.read_line(), other.wait()), ("ran".to_owned(), 0));
    // The step that always runs succeeds if the lock was released before, or never acquired.
    run_to_end(&mut runner.github_step(RELEASE, &[("lease", &lease)])).status(0).silent();
    assert_eq!(
        run_to_end(&mut runner.github_step(RELEASE, &[("lease", "")])).status(0).silent().out,
        "No lock was acquired.\n"
    );
    assert!(runner.is_free("deploy"));
}

impl Runner {
    /// A part of a GitLab job that extends the template: the lines before the script and the script, or the lines after it.
    fn gitlab_part(&self, part: &str, script: &str) -> Command {
        let text = read_file("ci/gitlab.yml");
        let job = text.split_once("\n.aba-lock:\n").unwrap().1;
        let section = job.split_once(&format!("  {part}:\n")).unwrap().1;
        let end = section.lines().take_while(|line| split_indent(line).0 > 2).map(|line| line.len() + 1).sum();
        let blocks = read_blocks(&section[..end], |head| head == "- |");
        assert_eq!(blocks.len(), 1, "{section}");
        let mut command = self.program("setsid");
        command.args(["sh", "-c", &format!("set -e\n{}{script}\n", blocks[0])]);
        for line in job.split_once("  variables:\n").unwrap().1.lines().take_while(|line| split_indent(line).0 > 2) {
            let (name, value) = line.trim().split_once(": ").unwrap();
            command.env(name, value.replace("$CI_PROJECT_PATH_SLUG", "team-shop"));
        }
        command.env("CI_PROJECT_DIR", self.path("")).env("CI_JOB_ID", "815").env("CI_JOB_NAME", "deploy");
        command.env("CI_JOB_URL", "https://gitlab.example.org/team/shop/-/jobs/815");
        command.env("ABA_LOCK_SERVER", self.service.url());
        command.env("ABA_LOCK_SERVER_SECRET_FILE", self.path("secret"));
        command
    }

    /// A step `sh` of the pipeline for Jenkins.
    fn jenkins_step(&self, number: usize) -> Command {
        let text = read_file("ci/Jenkinsfile");
        let scripts: Vec<&str> = text.split("sh '''\n").skip(1).map(|rest| rest.split("'''").next().unwrap()).collect();
        assert_eq!(scripts.len(), 3);
        // In Groovy, a backslash at the end of a line joins it with the next one; no other escape may be in the text.
        let script = scripts[number].replace("\\\n", "");
        assert!(!script.contains('\\'), "{script}");
        let path = self.path("script.sh");
        fs::write(&path, script).unwrap();
        let mut command = self.program("sh");
        command.arg("-xe").arg(path);
        command
            .env("WORKSPACE_TMP", self.path("workspace@tmp"))
            .env("BUILD_URL", "https://jenkins.example.org/job/shop/7/");
        command.env("ABA_LOCK_SERVER", self.service.url());
        command.env("ABA_LOCK_SERVER_SECRET_FILE", self.path("secret"));
        command
    }
}

#[test]
fn a_gitlab_job_holds_the_lock_while_its_script_runs_and_after_script_releases_it() {
    let runner = Runner::new();
    let after = || run_to_end(&mut runner.gitlab_part("after_script", "")).status(0).silent();
    let said = run_to_end(&mut runner.gitlab_part("before_script", "aba-lock lease show team-shop; exit 7"))
        .status(7)
        .silent();
    assert!(said.out.contains("(job deploy of https://gitlab.example.org/team/shop/-/jobs/815)"), "{said:?}");
    assert!(!runner.is_free("team-shop"));
    after();
    assert!(runner.is_free("team-shop") && !runner.path(".aba-lock-815").exists());
    // A cancelled job: the whole group gets SIGTERM, and then `after_script` runs.
    let mut job = RunningScript::start(runner.gitlab_part("before_script", "echo held; sleep 1000"));
    assert_eq!(job.read_line(), "held");
    send_signal(format!("-{}", job.pid()), "TERM");
    assert_eq!(job.wait(), 143);
    after();
    assert!(runner.is_free("team-shop"));
    // The wait fails with the name of the holder, or is cancelled.
    let held = runner.lease(&["acquire", "--ttl", "1h", "--who", "the nightly build", "team-shop"]).status(0).out;
    let mut job = runner.gitlab_part("before_script", "echo ran");
    let said =
        run_to_end(job.env("LOCK_MAX_WAIT", "4s")).status(124).err("timed out waiting for team-shop, held by pid ");
    assert_eq!((said.err.matches("(the nightly build)").count(), &*said.out), (2, ""));
    after();
    // The whole group gets the signal, or only the shell.
    for group in ["-", ""] {
        let mut job = RunningScript::start(runner.gitlab_part("before_script", "echo ran"));
        assert!(job.read_error().contains("waiting for team-shop"));
        wait_until("the job is in the queue", || runner.has_waiter("team-shop"));
        send_signal(format!("{group}{}", job.pid()), "TERM");
        assert_eq!(job.wait(), 143);
        wait_until("the job has left the queue", || !runner.has_waiter("team-shop"));
        after();
    }
    runner.lease(&["release", held.trim()]).status(0);
    assert!(runner.is_free("team-shop"));
}

#[test]
fn the_steps_of_a_jenkins_pipeline_hold_the_lock() {
    let runner = Runner::new();
    let write_program = |text: &str| {
        // A child process writes it, because another test may fork at this moment, and an open file cannot be executed.
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(runner.path("deploy.sh")).arg(text);
        run_to_end(&mut shell).status(0);
    };
    write_program("#!/bin/sh\naba-lock lease show deploy\nexit 7\n");
    let said = run_to_end(&mut runner.jenkins_step(0)).status(7);
    assert!(said.out.contains("(https://jenkins.example.org/job/shop/7/)"), "{said:?}");
    assert!(!said.err.contains(TOKEN) && runner.is_free("deploy"));
    // An aborted build.
    write_program("#!/bin/sh\necho $$\nexec sleep 1000\n");
    let mut step = RunningScript::start(runner.jenkins_step(0));
    let command: u32 = step.read_line().parse().unwrap();
    send_signal(step.pid(), "TERM");
    assert_eq!(step.wait(), 143);
    wait_until("the command has ended", || !is_alive(command));
    assert!(runner.is_free("deploy"));
    // Several steps.
    run_to_end(&mut runner.jenkins_step(1)).status(0);
    assert!(!runner.is_free("release"));
    let mut other = RunningScript::start(runner.jenkins_step(1));
    while !other.read_error().contains("waiting for release at ") {}
    send_signal(other.pid(), "TERM");
    assert_eq!(other.wait(), 143);
    // The second build has removed the file of the first one: in Jenkins, each build has a workspace of its own.
    let held: serde_json::Value = serde_json::from_str(&runner.lease(&["show", "release", "--json"]).out).unwrap();
    runner.lease(&["release", held["holder"]["lease"].as_str().unwrap()]).status(0);
    run_to_end(&mut runner.jenkins_step(1)).status(0);
    run_to_end(&mut runner.jenkins_step(2)).status(0);
    assert!(runner.is_free("release"));
    run_to_end(&mut runner.jenkins_step(2)).status(0);
}
