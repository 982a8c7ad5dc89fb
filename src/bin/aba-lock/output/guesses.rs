//! The words and options that users of other tools try, with the command that does what they probably mean.

/// The advice for a word that is no command.
#[derive(Debug, Clone, Copy)]
pub(super) enum Advice {
    /// The command of this program that does it. The hint shows it with the other words of the user.
    Command(&'static str),
    /// A hint.
    Text(&'static str),
}

use Advice::{Command, Text};

/// Words that are no commands, with the advice for each.
const COMMANDS: &[(&[&str], Advice)] = &[
    (
        &[
            "exec", "run", "with", "do", "acquire", "take", "hold", "guard", "protect", "try", "trylock", "try-lock",
            "mutex", "locked", "single", "solo",
        ],
        Command("lock"),
    ),
    (&["once", "start", "runonce", "run_once", "background", "bg"], Command("run-once")),
    (
        &["cron"],
        Text("in a crontab, skip a run while the last one still runs: `aba-lock lock --skip-ok NAME -- COMMAND`"),
    ),
    (&["timeout"], Text("give up after 60 seconds: `aba-lock lock --timeout 60 NAME -- COMMAND`")),
    (&["sem", "semaphore", "slot", "slots", "limit", "parallel", "jobs"], Text(SLOTS)),
    (&["coalesce", "debounce", "dedupe", "collapse", "again", "rerun"], Text(ONCE_MORE)),
    (
        &["kill", "stop", "end", "terminate", "break", "force", "steal", "force-unlock", "cancel", "abort"],
        Text(
            "end the processes that hold a lock: `aba-lock unlock NAME --kill`; end a task: `aba-lock run-once --reset -i ID`",
        ),
    ),
    (
        &["wait-for", "block", "await", "until", "join"],
        Text("wait until a lock is free: `aba-lock wait NAME`; wait for a task: `aba-lock run-once --wait -i ID`"),
    ),
    (
        &["logs", "tail", "output", "stdout"],
        Text("print the output of a task: `aba-lock run-once -o -i ID`; the history of locks: `aba-lock log`"),
    ),
    (&["events", "event", "history", "audit", "journal"], Command("log")),
    (&["ls", "locks", "all", "show-all", "tasks"], Command("list")),
    (&["ps", "held", "running"], Text("list the held locks and running tasks: `aba-lock list --held`")),
    (&["top", "watch", "monitor", "tui"], Text("show the list full-screen: `aba-lock list --watch`")),
    (
        &[
            "info",
            "show",
            "who",
            "query",
            "check",
            "test",
            "inspect",
            "holder",
            "owner",
            "stat",
            "is-locked",
            "get-status",
        ],
        Command("status"),
    ),
    (&["port", "ports", "free-port", "freeport", "number", "alloc", "allocate"], Command("reserve")),
    (
        &["free"],
        Text("get a free port: `aba-lock reserve`; end the processes that hold a lock: `aba-lock unlock NAME --kill`"),
    ),
    (&["edit", "modify", "change", "transform", "filter", "sed", "yq", "jq"], Command("update")),
    (&["save", "put", "tee", "replace", "store", "overwrite"], Command("write")),
    (&["rm", "remove", "delete", "del", "purge", "gc", "cleanup", "clear", "prune"], Command("clean")),
    (&["mv", "move", "rename"], Text("keep the ports of a moved directory: `aba-lock migrate --from OLD --to NEW`")),
    (&["file"], Text("lock a file: `aba-lock lock --file PATH -- COMMAND`")),
    (&["renew", "extend", "refresh", "keepalive"], Text("renew a lease at a server: `aba-lock lease renew`")),
    (&["serve", "server", "daemon"], Text("start the lock service: `aba-lockd serve`")),
    (
        &["shell", "bash", "source", "hook", "eval"],
        Text("load the functions in a script: `eval \"$(aba-lock init bash)\"`; also for zsh, sh and fish"),
    ),
    (
        &["completion", "complete", "autocomplete"],
        Text("load TAB completion in bash: `source <(aba-lock completions bash)`; also for zsh and fish"),
    ),
    (
        &["config", "configure", "set", "settings", "env"],
        Text("all settings are environment variables: see `aba-lock help`"),
    ),
    (&["version"], Text("print the version: `aba-lock --version`")),
    (&["manual", "doc", "docs", "manpage", "page"], Command("man")),
    (&["usage", "examples", "example"], Command("help")),
];

const KILL: &str = "end the processes that hold the lock: `aba-lock unlock NAME --kill`";
const ONCE_MORE: &str =
    "run once more after the present run, however many calls there are: `aba-lock lock --coalesce NAME -- COMMAND`";

const REPLACE: &str = "end the holder and take its place: `aba-lock lock --replace NAME -- COMMAND`";
const SLOTS: &str = "run at most 3 commands at the same time: `aba-lock lock --slots 3 NAME -- COMMAND`";
const ANY_PORT: &str = "get a free port: `aba-lock reserve`";
pub(super) const THIS_PORT: &str =
    "choose port 8080 if it is free: `--prefer 8080`; fail if it is not: `--require 8080`";
const LIST: &str = "show all locks and tasks: `aba-lock list`";
const WATCH: &str = "show changes full-screen: `aba-lock list --watch`";
const NO_WAIT: &str = "`lock` does not wait without --wait; -n (--nonblock) also overrides ABA_LOCK_TIMEOUT";
const WAITS: &str = "this command waits by itself; to give up after 60 seconds: `--timeout 60`";
const RESET: &str = "end the task, and forget its result: `aba-lock run-once --reset -i ID`";
const DIRECTORY: &str = "set the directory of the lock files with the environment variable ABA_LOCK_DIR";

/// Options that do not exist: the commands that lack them, their names, and the hint. No commands means all of them.
const OPTIONS: &[(&[&str], &[&str], &str)] = &[
    (&["lock"], &["--steal", "--take-over", "--newest", "--latest", "--cancel", "--restart"], REPLACE),
    (&["lock", "flock", "unlock"], &["-f", "-k", "--force", "--kill", "--steal", "--break"], KILL),
    (&["unlock"], &["-9"], "end the holders with SIGKILL: `aba-lock unlock NAME --kill=KILL`"),
    (&["unlock"], &["-s", "--signal"], "end the holders with SIGINT: `aba-lock unlock NAME --kill=INT`"),
    (
        &["unlock"],
        &["-w", "-t", "--wait", "--timeout"],
        "--kill waits until the lock is free, and sends SIGKILL after --grace TIME",
    ),
    (&["unlock", "clean"], &["-a", "--all"], LIST),
    (&["lock"], &["--no-wait", "--nowait", "--no-block", "--non-blocking", "--nonblocking", "--nb", "--try"], NO_WAIT),
    (
        &["update", "write"],
        &["--no-wait", "--nowait", "--no-block", "--non-blocking", "--nonblocking", "--try"],
        "fail at once if another process updates the file: -n (--nonblock)",
    ),
    (&["update", "write", "release", "exclude", "migrate"], &["-w", "--wait"], WAITS),
    (
        &["reserve"],
        &["-w", "--wait", "--nonblock", "--no-wait"],
        "`reserve` does not wait for a free number: it fails with status 75; --timeout limits the wait for another call that runs",
    ),
    (
        &["run-once"],
        &["-n", "--nonblock", "--no-wait", "-b", "--background", "--detach"],
        "without --wait, `run-once` starts the task in the background and returns at once",
    ),
    (
        &["lock", "run-once"],
        &["--max-runtime", "--max-duration", "--duration", "--time-limit", "--kill-after"],
        "end the command after an hour: --max-time 1h",
    ),
    (&["lock"], &["-i", "--id", "--name", "--lock"], "the name is an argument: `aba-lock lock NAME -- COMMAND`"),
    (
        &["run-once", "reserve"],
        &["-c", "--command", "--cmd", "--exec"],
        "write the command after `--`, such as `-- sh -c 'make && make install'`",
    ),
    (&["lock"], &["--cmd", "--exec", "--shell"], "write the command after `--`, or a line for a shell after `-c`"),
    (
        &["lock"],
        &["--skip", "--ok-if-busy", "--ignore-busy"],
        "end with status 0 and no message if the lock is held: `--skip-ok`",
    ),
    (&["lock"], &["--port", "-p"], ANY_PORT),
    (&["lock"], &["--debounce", "--dedupe", "--collapse", "--once-more", "--rerun"], ONCE_MORE),
    (&["lock"], &["-j", "--jobs", "--max", "--count", "--parallel", "--limit", "--pool", "--range"], SLOTS),
    (
        &["lock"],
        &["-m", "--message", "--reason", "--comment", "--note"],
        "show a text to the processes that wait: `--who TEXT`",
    ),
    (&["lock"], &["--on-conflict", "--or", "--else"], "run another command if the lock is held: `--on-busy COMMAND`"),
    (
        &["lock"],
        &["-r", "--retry", "--retries", "--interval", "--poll", "--sleep"],
        "a wait ends as soon as the lock is free; to wait for at most 60 seconds: `--wait=60`",
    ),
    (&["lock"], &["-e"], "exit with status 0 if another process holds the lock: `-E 0`"),
    (&["lock"], &["--json"], "print the state of a lock as JSON: `aba-lock status --json NAME`"),
    (&["reserve"], &["-p", "--number"], THIS_PORT),
    (&["reserve"], &["-i", "--id", "--name"], "give the number a name: `--tag TAG`"),
    (&["reserve"], &["-n", "--count"], "reserve two numbers: `--group web,db`"),
    (&["reserve"], &["--min", "--max", "--from", "--to"], "choose from a range: `--range 5000-7000`"),
    (&["reserve"], &["--release", "--free", "--delete"], "release the number: `aba-lock release`"),
    (&["reserve"], &["--json"], "print JSON: `--format json`"),
    (&["release"], &["-a", "--all"], "release all numbers of this directory: `--all-tags`"),
    (&["run-once"], &["--name"], "name the task: `-i ID`"),
    (
        &["run-once"],
        &["--log", "--logs", "--output", "--tail", "--show"],
        "print the output of the task: `-o`; its error output: `-e`",
    ),
    (&["run-once"], &["-k", "-f", "--kill", "--stop", "--force", "--clear", "--forget", "--delete", "--rerun"], RESET),
    (&["run-once"], &["-l", "--status", "--state"], "show the state of the task: `aba-lock run-once --list -i ID`"),
    (&["update"], &["-f", "--file"], "the file is an argument: `aba-lock update FILE -- COMMAND`"),
    (&["write"], &["-f", "--file", "-o"], "the file is an argument: `COMMAND | aba-lock write FILE`"),
    (&["write"], &["-a", "--append"], "add a line at the end: `aba-lock update FILE -- sh -c 'cat; echo LINE'`"),
    (&["status"], &["-w", "--wait"], "wait until the lock is free: `aba-lock wait NAME`"),
    (&["wait"], &["-w", "--wait"], WAITS),
    (&["status"], &["-f", "--follow", "--watch"], WATCH),
    (&["status"], &["-a", "--all"], LIST),
    (&["list"], &["-a", "-l", "--all"], "`aba-lock list` shows all locks and tasks"),
    (&["list"], &["-f", "-w", "--follow"], WATCH),
    (&["list"], &["--tasks"], "list the tasks: `aba-lock run-once --list`"),
    (&["clean"], &["-f", "--force"], KILL),
    (&["doctor"], &["--fix"], "`doctor` changes nothing; it prints how to fix each problem"),
    (&[], &["-d", "--dir", "--directory"], DIRECTORY),
];

/// Arguments that do not exist: the commands that take no such argument, and the hint.
const ARGUMENTS: &[(&[&str], &str)] = &[
    (
        &["release"],
        "`release` is for reserved numbers; end the processes that hold a lock: `aba-lock unlock NAME --kill`",
    ),
    (&["list"], "show one lock: `aba-lock status NAME`"),
    (&["status", "unlock", "path"], "give one name; show all locks and tasks: `aba-lock list`"),
    (&["write"], "`write` reads the new content from standard input: `COMMAND | aba-lock write FILE`"),
    (&["migrate"], "name both directories: `aba-lock migrate --from OLD --to NEW`"),
];

/// Returns the advice for a word that is no command.
pub(super) fn find_advice(word: &str) -> Option<Advice> {
    COMMANDS.iter().find(|(words, _)| words.contains(&word)).map(|(_, advice)| *advice)
}

/// Returns the hint for an option that `command` does not have.
pub(super) fn find_option_hint(command: &str, option: &str) -> Option<&'static str> {
    let applies = |commands: &[&str]| commands.is_empty() || commands.contains(&command);
    OPTIONS.iter().find(|(commands, options, _)| applies(commands) && options.contains(&option)).map(|row| row.2)
}

/// Returns the hint for an argument that `command` does not take.
pub(super) fn find_argument_hint(command: &str) -> Option<&'static str> {
    ARGUMENTS.iter().find(|(commands, _)| commands.contains(&command)).map(|(_, hint)| *hint)
}

/// Returns true if one typing error turns `name` into `word`: a letter too many, a letter too few, a wrong letter, or two
/// letters in the wrong order.
pub(super) fn is_typing_error(word: &str, name: &str) -> bool {
    let same = word.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let (word, name) = (&word.as_bytes()[same..], &name.as_bytes()[same..]);
    match (word, name) {
        ([_, word @ ..], [_, name @ ..]) if word == name => true,
        ([a, b, word @ ..], [c, d, name @ ..]) if a == d && b == c && word == name => true,
        ([_, rest @ ..], _) if rest == name => true,
        (_, [_, rest @ ..]) => word == rest,
        _ => false,
    }
}
