//! Every shell snippet of the README and the manual pages, in three states.
//!
//! - Free: the program that it guards runs once.
//! - Held: the program does not run, or waits until the other process has ended.
//! - Broken (the state directory cannot be used, or the lock service does not answer): the program does not run.
//!
//! A snippet is a code block, or a line of one that lists calls that have nothing to do with each other. The table below has a
//! row for each. Programs and services are stubs that note their call.

use crate::args;
use crate::call::Holder;
use crate::process::{count_waiters, wait_until, write_program};
use crate::scene::{Gate, HELPER, Scene};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The rule for a snippet.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// It is not run, for this reason.
    Not(&'static str),
    /// It guards nothing. It is run in the free state alone.
    Plain,
    /// It guards the call of a program.
    Guard(Lock, &'static str),
    /// The same, but it waits for the holder.
    Waits(Lock, &'static str),
    /// It guards the call of a program by a lease at a server. It is run without a server alone: `tests/cluster` has servers.
    Lease(&'static str),
}

/// The means by which a snippet guards a program.
#[derive(Debug, Clone, Copy)]
enum Lock {
    /// The lock of this name.
    Name(&'static str),
    /// The lock file `backup.lock` in a directory that exists where nothing is broken.
    File,
    /// The lock of the update of this file.
    Update(&'static str),
    /// The task with this id.
    Task(&'static str),
    /// A number of this pool, of which others have all.
    Number(&'static str),
    /// The lock service.
    Service,
}

use Kind::{Guard, Lease, Not, Plain, Waits};
use Lock::{File, Name, Number, Service, Task, Update};

const INSTALLS: &str = "installs";
const BUILDS: &str = "builds, and runs for minutes";
const SERVES: &str = "starts a service, for which tests/service has scenes";
const LEASES: &str = "needs a lock server, for which tests/cluster has scenes";
const OLD_WAY: &str = "the way that is replaced";
const SCREEN: &str = "needs a terminal";
const NO_SHELL: &str = "is no shell text";

/// A program that stands for what comes after the snippet in a script.
const REST: &str = "rest";

/// Each snippet, by a text that is only in it, with the program that it guards.
const ROWS: &[(&str, Kind)] = &[
    // README.
    ("make install demo", Not(INSTALLS)),
    ("make install WITH_FLOCK", Not(INSTALLS)),
    ("make bench", Not(BUILDS)),
    ("make -s bench", Not(BUILDS)),
    ("make torture", Not(BUILDS)),
    ("make test", Not(BUILDS)),
    ("save | load) aba_lock_operation", Guard(Name("mirror-save"), REST)),
    ("aba_lock_operation --wait backup", Waits(Name("backup"), REST)),
    ("aba_lock_operation db cache", Guard(Name("cache"), REST)),
    ("aba_lock_operation --shared db", Guard(Name("db"), REST)),
    ("aba_lock_operation --on-conflict ask backup", Guard(Name("backup"), REST)),
    ("aba_lock_held backup &&", Plain),
    ("aba_lock_detach exec registry", Plain),
    ("aba_unlock_operation backup", Not("needs the lock of a snippet above")),
    ("aba-lock lock backup -- rsync", Guard(Name("backup"), "rsync")),
    ("aba-lock lock -t 60 backup -- ./backup.sh", Waits(Name("backup"), "./backup.sh")),
    ("aba-lock status backup", Plain),
    ("aba-lock unlock backup --kill", Plain),
    ("aba-lock clean", Plain),
    ("aba-lock run-once -w -t 3600 -i latest -- ./look-up   # at most", Waits(Task("fetch"), "make")),
    ("# before\nexec 200>/var/lock", Guard(Name("backup"), REST)),
    ("# before\n[ -e /run/backup.pid ]", Guard(Name("backup"), REST)),
    ("# before\nmkdir /tmp/backup.lock", Guard(Name("backup"), REST)),
    ("aba-lock flock -n /var/lock/backup.lock", Guard(File, "./backup.sh")),
    ("backup.sh          # before", Not(OLD_WAY)),
    ("aba-lock lock backup -- ./backup.sh", Guard(Name("backup"), "./backup.sh")),
    ("aba-lock lock --file /var/lock/backup.lock", Guard(File, "./backup.sh")),
    ("aba-lock update hosts.yaml -- yq", Waits(Update("hosts.yaml"), "yq")),
    ("aba-lock update --in-place hosts.txt", Waits(Update("hosts.txt"), "sed")),
    ("aba-lock write --check", Waits(Update("out.json"), "changed out.json")),
    ("aba-lock update --dry-run", Waits(Update("f.conf"), "sed")),
    ("aba_update hosts.txt add_host", Waits(Update("hosts.txt"), "add_host")),
    ("export ABA_LOCK_LOG", Plain),
    ("aba-lock metrics | aba-lock write", Waits(Update("lib/aba_lock.prom"), "changed lib/aba_lock.prom")),
    ("PORT=$(aba-lock reserve) || exit", Guard(Number("ports"), REST)),
    ("aba-lock reserve --group web,db --dotenv .env", Guard(Number("ports"), "changed .env")),
    ("aba-lock reserve -- sh -c 'PORT=$ABA_NUMBER ./tests'", Guard(Number("ports"), "./tests")),
    ("aba-lock reserve --pool gpu --range 0-7 -- ./train", Guard(Number("gpu"), "./train")),
    ("aba-lock reserve --list", Plain),
    ("aba-lock release --all-tags", Plain),
    ("aba-lockd serve", Not(SERVES)),
    ("LOCKS=http://127.0.0.1:8080", Guard(Service, REST)),
    ("export ABA_LOCK_SERVER=etcd://", Lease("./publish")),
    // Manual pages.
    ("UPDATE release SET", Not(NO_SHELL)),
    ("reservations:", Not(NO_SHELL)),
    ("export ABA_LOCK_SERVER=https://", Lease("./publish")),
    ("PORT=$(aba-lock reserve) || exit\nexport PORT", Guard(Number("ports"), REST)),
    ("aba-lock reserve --tag test -- ./run-tests", Guard(Number("ports"), "./run-tests")),
    ("docker compose up", Guard(Number("ports"), "docker")),
    ("ports=$(aba-lock reserve", Guard(Number("ports"), REST)),
    ("exec ./run-tests'", Guard(Number("ports"), "./run-tests")),
    ("aba-lock reserve --group app,db -- ./run-tests", Guard(Number("ports"), "./run-tests")),
    ("CUDA_VISIBLE_DEVICES=$ABA_NUMBER", Guard(Number("gpu"), "./train")),
    ("Xvfb :$ABA_NUMBER", Guard(Number("display"), "Xvfb")),
    ("aba-lock exclude", Plain),
    ("aba-lock reserve --prune", Plain),
    ("aba_lock_operation mirror-save", Guard(Name("mirror-save"), REST)),
    ("case \"$command\" in", Guard(Name("mirror-save"), REST)),
    ("aba_lock_operation --on-conflict ask save", Guard(Name("save"), REST)),
    ("aba_run_once --wait -i fetch", Waits(Task("fetch"), "make")),
    ("run_once -w -S -m 'Waiting for the download'", Waits(Task("fetch"), "make")),
    ("run_once -q -w -S -t 3600", Waits(Task("latest"), "./look-up")),
    ("run_once -F", Plain),
    // Examples of the helper.
    ("aba-lock lock db cache -- ./migrate.sh", Guard(Name("cache"), "./migrate.sh")),
    ("aba-lock lock --on-busy 'tmux attach", Guard(Name("build"), "./build.sh")),
    ("aba-lock lock --fd 200 backup", Not("is a part of the library, for descriptors that it has opened")),
    ("aba-lock lock --server etcd://", Lease("./deploy.sh")),
    ("aba-lock flock -n /run/lock/backup", Guard(File, "./backup.sh")),
    ("ln -s", Not(INSTALLS)),
    ("aba-lock unlock --fd 200 backup", Not("needs a descriptor of a script")),
    ("aba-lock status --json backup", Plain),
    ("aba-lock list --held", Plain),
    ("aba-lock list --watch", Not(SCREEN)),
    ("aba-lock doctor", Plain),
    ("aba-lock run-once -i fetch -- make download", Guard(Task("fetch"), "make")),
    ("aba-lock run-once -w -i fetch", Not("needs the task of the example above")),
    ("aba-lock run-once -w -i fetch -- make download", Waits(Task("fetch"), "make")),
    ("./look-up; aba-lock run-once -o", Waits(Task("latest"), "./look-up")),
    ("aba-lock run-once -r", Plain),
    ("aba-lock run-once --list", Plain),
    ("--backup f.json -- ./migrate", Waits(Update("f.json"), "./migrate")),
    ("aba-lock write --create out.conf", Waits(Update("out.conf"), "changed out.conf")),
    ("aba-lock reserve --tag web --prefer", Guard(Number("ports"), REST)),
    ("aba-lock migrate", Plain),
    ("aba-lock lease", Not(LEASES)),
    ("eval \"$(aba-lock init bash)\"", Plain),
    // Examples of the service.
    ("curl -d", Not("only prints")),
    ("id=$(curl -s localhost:8080", Guard(Service, REST)),
];

/// Blocks, each by a text that is only in it, whose lines are calls that have nothing to do with each other.
const LISTS: &[&str] = &[
    "make install WITH_FLOCK=yes",
    "make bench  ",
    "aba_lock_operation --wait backup",
    "aba-lock lock backup -- rsync",
    "flock -n /var/lock/backup.lock ./backup.sh          # before",
    "aba-lock update hosts.yaml",
    "aba-lock reserve --list",
    "aba-lock reserve --tag test",
    "aba-lock reserve --group app,db",
    "aba-lock reserve --pool display",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Held,
    Broken,
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap()
}

/// All snippets: blocks of the README and of the manual pages that are written by hand, and the examples of the others.
fn snippets() -> Vec<String> {
    let mut blocks = fenced(&read("README.md"));
    for page in fs::read_dir(project().join("shell")).unwrap().map(|entry| entry.unwrap().path()) {
        if page.extension().is_some_and(|end| end == "7") {
            blocks.extend(literal(&fs::read_to_string(&page).unwrap()));
        }
    }
    let is_list = |block: &String| LISTS.iter().any(|text| block.contains(text));
    let (lists, mut snippets): (Vec<String>, Vec<String>) = blocks.into_iter().partition(is_list);
    assert_eq!(lists.len(), LISTS.len(), "{lists:#?}");
    snippets.extend(lists.iter().flat_map(|list| list.lines()).map(str::to_owned));
    snippets.extend(args::page::EXAMPLES.iter().map(|(_, typed, _)| (*typed).to_owned()));
    for source in ["src/bin/aba-lockd/manual.rs", "src/bin/aba-lock-keeper/args.rs"] {
        snippets.extend(examples(&read(source)));
    }
    snippets
}

/// The blocks of a Markdown text that are for a shell.
fn fenced(text: &str) -> Vec<String> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix("sh\n").or_else(|| block.strip_prefix("bash\n")));
    shell.map(str::to_owned).collect()
}

/// The literal blocks of a manual page.
fn literal(text: &str) -> Vec<String> {
    let blocks = text.split("\n.Bd -literal").skip(1);
    let content = blocks.map(|block| block.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap());
    content.map(|block| block.replace("\\(dq", "\"").replace("\\e", "\\").replace("\\-", "-")).collect()
}

/// Returns the commands in the examples of a source text: the first text of each pair.
fn examples(source: &str) -> Vec<String> {
    let table = source.split_once("const EXAMPLES").unwrap().1.split_once("= ").unwrap().1;
    let mut texts = Vec::new();
    let mut rest = table.split_once("];").unwrap().0;
    while let Some((_, begun)) = rest.split_once('"') {
        let end = begun.char_indices().zip(std::iter::once('"').chain(begun.chars()));
        let (end, _) = end.map(|((at, c), before)| (at, c == '"' && before != '\\')).find(|(_, ends)| *ends).unwrap();
        texts.push(begun[..end].replace("\\\"", "\""));
        rest = &begun[end + 1..];
    }
    assert!(texts.len() >= 2 && texts.len().is_multiple_of(2), "{texts:#?}");
    texts.into_iter().step_by(2).collect()
}

/// The row of a snippet: that with the longest text which is in it.
fn row(snippet: &str) -> Option<&'static (&'static str, Kind)> {
    ROWS.iter().filter(|(text, _)| snippet.contains(text)).max_by_key(|(text, _)| text.len())
}

/// A place where a snippet runs.
struct Place {
    scene: Scene,
    state: State,
}

impl Place {
    fn new(state: State) -> Self {
        let place = Self { scene: Scene::new(), state };
        for directory in ["work", "work/lib", "bin"] {
            fs::create_dir(place.scene.path(directory)).unwrap();
        }
        if state != State::Broken {
            fs::create_dir(place.scene.path("files")).unwrap();
        }
        let stub = r#"#!/bin/sh
            case $0 in ./*) name=$0 ;; *) name=${0##*/} ;; esac
            echo "$name" >>"$CALLS"
            case $name in
                sed) PATH=/usr/bin:/bin exec sed "$@" ;;
                curl)
                    case $SERVICE in
                        Free) echo '{"id":"42"}' ;;
                        Held) echo '{"success":false,"existingLock":{"id":"42"}}' ;;
                        *) exit 7 ;;
                    esac
                    ;;
                *) echo '{}' ;;
            esac
        "#;
        let programs = "bin/Xvfb bin/curl bin/docker bin/make bin/prepare bin/registry bin/rest bin/rsync bin/sed bin/tmux bin/yq \
                        work/backup.sh work/build.sh work/deploy.sh work/generate work/look-up work/migrate work/migrate.sh \
                        work/publish work/run-tests work/tests work/train";
        write_program(&place.scene.path("stub"), stub);
        for program in programs.split_whitespace() {
            std::os::unix::fs::symlink(place.scene.path("stub"), place.scene.path(program)).unwrap();
        }
        for file in ["hosts.yaml", "hosts.txt", "out.json", "f.conf", "f.json", ".env"] {
            fs::write(place.work(file), "a\n").unwrap();
        }
        place
    }

    fn work(&self, name: &str) -> PathBuf {
        self.scene.path("work").join(name)
    }

    /// A bash that runs this text in this place.
    fn bash(&self, text: &str) -> Command {
        let mut command = self.scene.program("bash");
        let path = [self.scene.path("bin"), Path::new(HELPER).parent().unwrap().to_owned()];
        let path = format!("{}:{}:{}", path[0].display(), path[1].display(), std::env::var("PATH").unwrap());
        command.args(["-c", text, "snippet", "save"]).current_dir(self.scene.path("work"));
        command.stdout(Stdio::null()).stderr(fs::File::create(self.scene.path("err")).unwrap());
        command.env("PATH", path).env("CALLS", self.scene.path("calls")).env("SERVICE", format!("{:?}", self.state));
        command.env("ABA_LOCK_BIN", HELPER).env("ABA_LOCK_KEEPER", "/dev/null/none").env("command", "save");
        if self.state == State::Broken {
            command.env("ABA_LOCK_DIR", "/dev/null/none").env("HOME", "/dev/null");
        }
        command
    }

    /// The script of which a snippet is the beginning.
    fn script(&self, snippet: &str) -> String {
        let after = snippet.split_once("# after").and_then(|(_, after)| after.split_once('\n'));
        let snippet = after.map_or(snippet, |(_, after)| after);
        let shell = project().join("shell");
        let lock = self.scene.path("files/backup.lock");
        let text = snippet
            .replace("/usr/local/share/aba-lock", shell.to_str().unwrap())
            .replace("/var/lock/backup.lock", lock.to_str().unwrap())
            .replace("/run/lock/backup", lock.to_str().unwrap())
            .replace("/run/backup.pid", self.scene.path("pid").to_str().unwrap())
            .replace("/var/log/", "lib/")
            .replace("/var/lib/node_exporter/textfile/", "lib/");
        let sources = if text.contains("source ") {
            String::new()
        } else {
            format!("source '{0}/aba-lock.bash'; source '{0}/run_once.bash'", shell.display())
        };
        format!("{sources}\nadd_host() {{ echo add_host >>\"$CALLS\"; cat; echo \"$@\"; }}\n{text}\n{REST}\nwait\n")
    }

    /// The number of times that a program ran.
    fn count(&self, what: &str) -> usize {
        if let Some(file) = what.strip_prefix("changed ") {
            return usize::from(fs::read_to_string(self.work(file)).is_ok_and(|content| content != "a\n"));
        }
        let calls = fs::read_to_string(self.scene.path("calls")).unwrap_or_default();
        calls.lines().filter(|call| *call == what).count()
    }

    /// The lock file.
    fn lock_file(&self, lock: Lock) -> PathBuf {
        match lock {
            Name(name) => self.scene.lock_file(name),
            File => self.scene.path("files/backup.lock"),
            Update(file) => self.work(&format!("{file}.lock")),
            Task(id) => self.scene.task_file(id, "lock"),
            Number(_) | Service => unreachable!("there is no file to wait for"),
        }
    }

    /// Makes the lock of an update unusable. The environment does so for the other locks.
    fn break_lock(&self, lock: Lock) {
        if let Update(_) = lock {
            fs::create_dir(self.lock_file(lock)).unwrap();
        }
    }

    /// Lets another process hold it, for as long as what is returned lives.
    fn hold(&self, lock: Lock) -> Held {
        match lock {
            Name(name) => Held::By(self.scene.holder(name)),
            File | Update(_) => Held::By(self.scene.flock_holder(self.lock_file(lock))),
            Task(id) => {
                let gate = self.scene.gate("gate");
                let script = format!("read _ <'{}'; echo '{{}}'", gate.path.display());
                self.scene.once(["-i", id, "--", "bash", "-c", &script]).run();
                Held::ByTask(gate)
            }
            Number(pool) => {
                let range = [("gpu", "0-7"), ("display", "90-99")].iter().find(|(name, _)| *name == pool);
                let range = range.map_or("1-65535", |(_, range)| range);
                self.scene.aba(["exclude", "--pool", pool, range]).run();
                Held::ForGood
            }
            Service => Held::ForGood,
        }
    }
}

/// The holder of the lock of a snippet.
enum Held {
    By(Holder),
    /// A task that waits at a gate.
    ByTask(Gate),
    ForGood,
}

impl Held {
    /// Ends the holder. A gate must live on, because the task may not have reached it yet.
    fn release(self) -> Option<Gate> {
        match self {
            Self::By(holder) => {
                assert_eq!(holder.release(), 0);
                None
            }
            Self::ByTask(gate) => {
                gate.open();
                Some(gate)
            }
            Self::ForGood => None,
        }
    }
}

/// A snippet that runs.
struct RunningSnippet(Child, String);

impl RunningSnippet {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended. Its exit status.
    fn finish(&mut self) -> i32 {
        let what = format!("this snippet ends: {}", self.1);
        wait_until(&what, || self.has_ended());
        self.0.wait().unwrap().code().unwrap_or(128)
    }
}

impl Drop for RunningSnippet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a snippet in a state, and checks what it guards.
fn check(snippet: &str, kind: Kind, state: State) {
    let place = Place::new(state);
    let start = || RunningSnippet(place.bash(&place.script(snippet)).spawn().unwrap(), snippet.to_owned());
    let is_run = |work: &str, times: usize| {
        let said = fs::read_to_string(place.scene.path("err")).unwrap_or_default();
        assert_eq!(place.count(work), times, "{work} while {state:?}: {snippet}\nstderr: {said}");
    };
    let (lock, work, waits) = match (kind, state) {
        (Plain, State::Free) => {
            let status = start().finish();
            assert!(![2, 126, 127].contains(&status), "{status}: {snippet}");
            return;
        }
        // The helper finds no keeper.
        (Lease(work), State::Free | State::Broken) => {
            start().finish();
            return is_run(work, 0);
        }
        (Not(reason), _) => return assert!(!reason.is_empty()),
        (Plain | Lease(_), _) => return,
        (Guard(lock, work), _) => (lock, work, false),
        (Waits(lock, work), _) => (lock, work, true),
    };
    if state == State::Held {
        let held = place.hold(lock);
        let mut running = start();
        if waits {
            wait_until("it waits", || {
                assert!(!running.has_ended(), "it does not wait: {snippet}");
                count_waiters(&place.lock_file(lock)) > 0
            });
        } else {
            running.finish();
        }
        is_run(work, 0);
        let _gate = held.release();
        running.finish();
        // A task that has run is not run again.
        return is_run(work, usize::from(waits && !matches!(lock, Task(_))));
    }
    if state == State::Broken {
        place.break_lock(lock);
    }
    start().finish();
    if state == State::Free {
        // A task may be about to start.
        wait_until(snippet, || place.count(work) > 0);
    }
    is_run(work, usize::from(state == State::Free));
}

#[test]
fn each_snippet_has_a_row_and_each_row_a_snippet() {
    let snippets = snippets();
    assert!(snippets.len() > 80, "{snippets:#?}");
    for snippet in &snippets {
        assert!(row(snippet).is_some(), "no row for this snippet: {snippet}");
    }
    for (text, _) in ROWS {
        let is_used = snippets.iter().filter_map(|snippet| row(snippet)).any(|(used, _)| used == text);
        assert!(is_used, "no snippet has this row: {text}");
    }
}

#[test]
fn a_guarded_program_runs_once_if_the_lock_is_free() {
    for snippet in snippets() {
        check(&snippet, row(&snippet).unwrap().1, State::Free);
    }
}

#[test]
fn a_guarded_program_does_not_run_while_the_lock_is_held() {
    for snippet in snippets() {
        check(&snippet, row(&snippet).unwrap().1, State::Held);
    }
}

#[test]
fn a_guarded_program_does_not_run_if_locking_is_broken() {
    for snippet in snippets() {
        check(&snippet, row(&snippet).unwrap().1, State::Broken);
    }
}
