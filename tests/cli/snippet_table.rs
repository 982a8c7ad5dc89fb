//! The shell snippets of the README, of `docs` and of the manual pages, and a table with the rule for each of them.
//!
//! A snippet is a code block. Where a block lists independent calls, each of its lines is a snippet.

use crate::args;
use std::fs;
use std::path::Path;

/// The rule for a snippet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SnippetRule {
    /// The snippet is not run, for this reason.
    Not(&'static str),
    /// The snippet guards nothing. It is run only in the free state.
    Plain,
    /// The snippet guards a program.
    Guard(GuardLock, &'static str),
    /// The snippet guards a program and waits for the holder.
    Waits(GuardLock, &'static str),
    /// The snippet guards a program by a lease of a server. It is run only without a server: `tests/cluster` has servers.
    Lease(&'static str),
}

/// The lock by which a snippet guards a program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GuardLock {
    /// The lock of this name.
    Name(&'static str),
    /// The lock file `backup.lock` in a directory that exists unless locking is broken.
    File,
    /// The lock of the update of this file.
    Update(&'static str),
    /// The task with this id.
    Task(&'static str),
    /// A number of this pool. In the held state, all numbers are taken.
    Number(&'static str),
    /// The lock service.
    Service,
}

use GuardLock::{File, Name, Number, Service, Task, Update};
use SnippetRule::{Guard, Lease, Not, Plain, Waits};

const INSTALLS: &str = "installs";
const BUILDS: &str = "builds, and runs for minutes";
const SERVES: &str = "starts a service, for which tests/service has scenes";
const LEASES: &str = "needs a lease server, for which tests/cluster has scenes";
const RESTARTS: &str = "starts the script again, for which tests/shell has scenes";
const OLD_WAY: &str = "the way that is replaced";
const SCREEN: &str = "needs a terminal";
const PACKAGES: &str = "is about the packages of this system";
const NO_SHELL: &str = "is no shell text";

/// A program that stands for the rest of the script after a snippet.
pub(crate) const REST: &str = "rest";

/// The snippets, each identified by a text that no other snippet has, with their rules.
pub(crate) const ROWS: &[(&str, SnippetRule)] = &[
    // README.
    ("make install demo", Not(INSTALLS)),
    ("make install WITH_FLOCK", Not(INSTALLS)),
    ("tar xzf aba-lock-", Not(INSTALLS)),
    ("make test", Not(BUILDS)),
    ("make bench", Not(BUILDS)),
    ("make -s bench", Not(BUILDS)),
    ("make torture", Not(BUILDS)),
    ("save | load) aba_lock_operation", Guard(Name("mirror-save"), REST)),
    ("aba_lock_operation --wait backup", Waits(Name("backup"), REST)),
    ("aba_lock_operation db cache", Guard(Name("cache"), REST)),
    ("aba_lock_operation --shared db", Guard(Name("db"), REST)),
    ("if aba_lock_operation --wait=60 --on-conflict return backup", Waits(Name("backup"), "./backup.sh")),
    ("aba_lock_operation --on-conflict ask backup", Guard(Name("backup"), REST)),
    ("aba_lock_held backup &&", Plain),
    ("aba_lock_detach exec registry", Plain),
    ("aba_unlock_operation backup", Not("needs the lock of a snippet above")),
    ("aba-lock lock backup -- rsync", Guard(Name("backup"), "rsync")),
    ("aba-lock lock --timeout 60 --on-busy ./notify.sh backup", Waits(Name("backup"), "./backup.sh")),
    ("aba-lock lock --skip-ok backup -- ./backup.sh", Guard(Name("backup"), "./backup.sh")),
    ("aba-lock lock --wait deploy -- ./deploy.sh", Waits(Name("deploy"), "./deploy.sh")),
    ("aba-lock status backup", Plain),
    ("install -d -m 2770 -g deploy /var/lib/aba-lock", Plain),
    ("aba-lock unlock backup --kill", Plain),
    ("aba-lock clean", Plain),
    ("aba-lock run-once -w --ttl 3600 -i latest -- ./look-up   # a result", Waits(Task("fetch"), "make")),
    ("# before\nexec 200>/var/lock", Guard(Name("backup"), REST)),
    ("# before\n[ -e /run/backup.pid ]", Guard(Name("backup"), REST)),
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
    ("API_PORT=$(aba-lock reserve --tag api)", Guard(Number("ports"), REST)),
    ("aba-lock reserve --group web,db --dotenv .env", Guard(Number("ports"), "changed .env")),
    ("aba-lock reserve -- sh -c 'PORT=$ABA_NUMBER ./tests'", Guard(Number("ports"), "./tests")),
    ("aba-lock lock --wait browser -- ./run-tests", Waits(Name("browser"), "./run-tests")),
    ("aba-lock reserve --pool gpu --range 0-7 -- ./train", Guard(Number("gpu"), "./train")),
    ("aba-lock reserve --list", Plain),
    ("aba-lock release --all-tags", Plain),
    ("aba-lock reserve --pool build --range 1-3 -- ./build.sh", Guard(Number("build"), "./build.sh")),
    ("aba-lock lock --slots 3 --wait build -- ./build.sh", Waits(Name("build"), "./build.sh")),
    ("aba-lock lock --coalesce deploy -- ./deploy.sh", Waits(Name("deploy"), "./deploy.sh")),
    ("aba-lock lock --priority low --wait database -- ./vacuum.sh", Waits(Name("database"), "./vacuum.sh")),
    ("aba-lock lock --priority high --wait database -- ./failover.sh", Waits(Name("database"), "./failover.sh")),
    ("aba-lock run-once -w -i \"fetch-$(date +%F)\"", Plain),
    ("aba-lock lock --max-time", Guard(Name("backup"), "./backup.sh")),
    // In the held state, it would end the holder of the scene.
    ("aba-lock lock --replace", Plain),
    ("aba-lock status --json backup | jq -e", Plain),
    ("aba-lock list              # the held", Plain),
    ("cat \"$(aba-lock path backup)\"", Plain),
    ("aba-lock log --since 12h backup", Plain),
    ("aba-lock log --enable\naba-lock log --since", Plain),
    ("aba-lock update --dry-run --diff hosts.yaml", Waits(Update("hosts.yaml"), "yq")),
    ("aba-lock update --create n.json", Waits(Update("n.json"), "changed n.json")),
    ("exec 9<>\"$(aba-lock path --create backup)\"", Guard(Name("backup"), REST)),
    ("aba-lockd serve", Not(SERVES)),
    ("kubectl apply", Not(SERVES)),
    ("LOCKS=http://127.0.0.1:8080", Guard(Service, REST)),
    ("export ABA_LOCK_SERVER=etcd://", Lease("./publish")),
    // Manual pages.
    ("UPDATE release SET", Not(NO_SHELL)),
    ("reservations:", Not(NO_SHELL)),
    ("export ABA_LOCK_SERVER=https://", Lease("./publish")),
    ("aba-lock lock deploy -- ./deploy.sh", Lease("./deploy.sh")),
    ("aba-lock lock --timeout 300 deploy -- ./deploy.sh", Lease("./deploy.sh")),
    ("worker aba-lock lock backup -- ./backup.sh", Plain),
    ("aba_lock_held backup ||", Not(RESTARTS)),
    ("aba-lock lock --no-inherit backup -- sh", Not(RESTARTS)),
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
    ("aba_lock_operation --wait=600 --who", Waits(Name("db"), "rsync")),
    ("aba_lock_operation --on-conflict ask save", Guard(Name("save"), REST)),
    ("aba_update hosts.txt set_host", Waits(Update("hosts.txt"), "changed hosts.txt")),
    ("aba_run_once --wait -i fetch", Waits(Task("fetch"), "make")),
    ("run_once -w -S -m 'Waiting for the download'", Waits(Task("fetch"), "make")),
    ("run_once -q -w -S -t 3600", Waits(Task("latest"), "./look-up")),
    ("run_once -p -i fetch", Plain),
    ("run_once -r -i fetch", Plain),
    ("run_once -F", Plain),
    // Examples of the helper.
    ("aba-lock lock --wait=60 backup -- ./backup.sh", Waits(Name("backup"), "./backup.sh")),
    ("aba-lock flock -w 60 /run/lock/backup", Waits(File, "./backup.sh")),
    ("aba-lock flock -n -E 0 /run/lock/backup", Guard(File, "./backup.sh")),
    ("aba-lock flock /run/lock/backup -c", Waits(File, "./backup.sh")),
    ("aba-lock unlock backup", Plain),
    ("aba-lock lock --key \"$url\"", Plain),
    ("aba-lock status --key", Plain),
    ("aba-lock wait backup && ./publish", Waits(Name("backup"), "./publish")),
    ("aba-lock wait --timeout 10m backup", Waits(Name("backup"), REST)),
    ("aba-lock wait build test", Plain),
    ("aba-lock wait --any", Plain),
    ("aba-lock wait --file /run", Plain),
    ("aba-lock wait --file /var/lib/dpkg", Not(PACKAGES)),
    ("aba-lock lock --wait --file /var/lib/dpkg", Not(PACKAGES)),
    ("aba-lock lock --wait=60 --file app.db --fcntl", Plain),
    ("aba-lock status -q backup", Plain),
    ("aba-lock status --file", Plain),
    ("aba-lock list", Plain),
    ("aba-lock path backup", Plain),
    ("exec 200<>\"$(aba-lock path", Plain),
    ("aba-lock lock db cache -- ./migrate.sh", Guard(Name("cache"), "./migrate.sh")),
    ("aba-lock lock --on-busy 'tmux attach", Guard(Name("build"), "./build.sh")),
    ("aba-lock lock --fd 200 backup", Not("is a part of the library, for descriptors that it has opened")),
    ("aba-lock lock --server etcd://", Lease("./deploy.sh")),
    ("aba-lock flock -n /run/lock/backup", Guard(File, "./backup.sh")),
    ("ln -s", Not(INSTALLS)),
    ("aba-lock unlock --fd 200 backup", Not("needs a descriptor of a script")),
    ("aba-lock status --json backup", Plain),
    ("aba-lock list --held", Plain),
    ("aba-lock log backup", Plain),
    ("aba-lock log --since 12h", Plain),
    ("aba-lock log --json backup", Plain),
    ("aba-lock log --enable", Plain),
    ("aba-lock log --disable", Plain),
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
    ("aba-lock lock --wait=600 apt -- apt-get", Waits(Name("apt"), "apt-get")),
    ("aba-lock unlock deploy --kill && aba-lock lock deploy", Not("ends the holder, and then holds the lock itself")),
    ("aba-lock list --json | jq -r '.locks[] | select", Plain),
    ("flock \"$(aba-lock path --create backup)\" ./backup.sh", Waits(Name("backup"), "./backup.sh")),
    ("ls -l \"$(aba-lock path backup)\"", Plain),
    ("select(.level ==", Plain),
    ("aba-lock doctor --library", Plain),
    ("aba-lock metrics | grep", Plain),
    ("aba-lock metrics --log", Plain),
    ("ABA_LOCK_DIR=/srv/locks", Not("is about a directory outside of the test")),
    ("aba-lock metrics | curl", Plain),
    ("| aba-lock write --backup hosts.txt", Waits(Update("hosts.txt"), "changed hosts.txt")),
    ("| aba-lock write --dry-run --diff", Plain),
    ("| aba-lock write -n --verbose f.conf", Guard(Update("f.conf"), "changed f.conf")),
    ("aba-lock release", Plain),
    ("command -v aba-lock >/dev/null", Plain),
    ("eval \"$(aba-lock init bash)\" && aba_lock_operation backup", Guard(Name("backup"), REST)),
    ("eval \"$(aba-lock init sh)\" && aba_lock_operation backup", Guard(Name("backup"), REST)),
    ("eval \"$(aba-lock init zsh)\"", Plain),
    ("aba-lock init fish | source", Not("is for fish")),
    ("aba-lock init bash >lib/aba-lock.bash", Plain),
    ("aba-lock completions", Plain),
    ("aba-lock man", Plain),
    ("aba-lock lease", Not(LEASES)),
    ("eval \"$(aba-lock init bash)\"", Plain),
    // Examples of the service.
    ("curl -d", Not("only prints")),
    ("id=$(curl -s localhost:8080", Guard(Service, REST)),
];

/// Blocks whose lines are independent snippets, each identified by a text that no other block has.
const LISTS: &[&str] = &[
    "make install WITH_FLOCK=yes",
    "make bench  ",
    "aba_lock_operation --wait backup",
    "aba-lock lock backup -- rsync",
    "flock -n /var/lock/backup.lock ./backup.sh          # before",
    "aba-lock update hosts.yaml",
    "the same port each time",
    "aba-lock update --dry-run --diff hosts.yaml",
    "aba-lock reserve --list  ",
    "aba-lock reserve --tag test",
    "aba-lock reserve --group app,db",
    "aba-lock reserve --pool display",
    "aba-lock lock --wait=60 --file app.db --fcntl",
];

pub(crate) fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_file(path: &str) -> String {
    fs::read_to_string(project_root().join(path)).unwrap()
}

/// Reads all snippets: blocks of the README, of `docs` and of the handwritten manual pages, and the examples of the generated pages.
pub(crate) fn read_snippets() -> Vec<String> {
    let mut blocks = find_fenced_blocks(&read_file("README.md"));
    for page in fs::read_dir(project_root().join("docs")).unwrap().map(|entry| entry.unwrap().path()) {
        blocks.extend(find_fenced_blocks(&fs::read_to_string(&page).unwrap()));
    }
    for page in fs::read_dir(project_root().join("shell")).unwrap().map(|entry| entry.unwrap().path()) {
        if page.extension().is_some_and(|end| end == "7") {
            blocks.extend(find_literal_blocks(&fs::read_to_string(&page).unwrap()));
        }
    }
    let is_list = |block: &String| LISTS.iter().any(|text| block.contains(text));
    let (lists, mut snippets): (Vec<String>, Vec<String>) = blocks.into_iter().partition(is_list);
    assert_eq!(lists.len(), LISTS.len(), "{lists:#?}");
    snippets.extend(lists.iter().flat_map(|list| list.lines()).map(str::to_owned));
    snippets.extend(args::examples::EXAMPLES.iter().map(|(_, typed, _)| (*typed).to_owned()));
    for source in ["src/bin/definitions/service_manual.rs", "src/bin/definitions/keeper.rs"] {
        snippets.extend(find_examples(&read_file(source)));
    }
    snippets
}

/// Returns the shell blocks of a Markdown text.
fn find_fenced_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix("sh\n").or_else(|| block.strip_prefix("bash\n")));
    shell.map(str::to_owned).collect()
}

/// Returns the literal blocks of a manual page.
fn find_literal_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("\n.Bd -literal").skip(1);
    let content = blocks.map(|block| block.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap());
    content.map(|block| block.replace("\\(dq", "\"").replace("\\e", "\\").replace("\\-", "-")).collect()
}

/// Returns the commands in the examples of a source text: the first text of each pair.
fn find_examples(source: &str) -> Vec<String> {
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

/// Returns the row of a snippet: the longest text that it contains decides.
pub(crate) fn find_row(snippet: &str) -> Option<&'static (&'static str, SnippetRule)> {
    ROWS.iter().filter(|(text, _)| snippet.contains(text)).max_by_key(|(text, _)| text.len())
}
