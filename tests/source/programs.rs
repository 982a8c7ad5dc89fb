//! The programs of this repository, each with its layers. [`crate::layers`] has the rule.

use crate::layers::Layers;

/// A crate: the library, or a program.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// The file of its root module.
    pub(crate) root: &'static str,
    /// The layers, from the ground up. A program without layers must only be free of cycles.
    pub(crate) layers: Layers,
}

pub(crate) const PROGRAMS: &[Entry] = &[
    Entry {
        name: "library",
        root: "src/lib.rs",
        layers: &[&["os"], &["base"], &["store"], &["lock"], &["file", "task"], &["number"], &["admin"], &["error"]],
    },
    Entry {
        name: "helper",
        root: "src/bin/aba-lock/main.rs",
        layers: &[&["args", "keeper_args"], &["parse"], &["exit"], &["output"], &["manual"], &["complete"], &["cmd"]],
    },
    Entry {
        name: "protocol",
        root: "src/protocol/lib.rs",
        layers: &[&["code", "path", "sharing", "span"], &["member"]],
    },
    Entry { name: "builtin", root: "src/bin/aba-lock-builtin/lib.rs", layers: &[&["bash"], &["call"]] },
    Entry {
        name: "keeper",
        root: "src/bin/aba-lock-keeper/main.rs",
        layers: &[
            &["args", "misuse", "os"],
            &["lease"],
            &["binding", "fault"],
            &["address", "environment", "exit", "lease_note"],
            &["on_lost", "settings"],
            &["output", "server"],
            &["cancellation", "keeper"],
            &["cmd"],
        ],
    },
    Entry {
        name: "service",
        root: "src/bin/aba-lockd/main.rs",
        layers: &[
            &["model", "args", "environment", "file_mode", "misuse", "shutdown"],
            &["error", "past_lock", "systemd"],
            &["event_feed", "report", "credential"],
            &["permission"],
            &["telemetry", "token_file", "tls", "exit"],
            &["connection", "store", "access", "runtime", "token_command"],
            &["lock_manager", "reload"],
            &["rest", "grpc"],
            &["lifecycle"],
        ],
    },
    Entry {
        name: "benchmarks",
        root: "benches/main.rs",
        layers: &[
            &["args", "cleanup", "pinned", "pipe", "stats"],
            &["call"],
            &["scene"],
            &["machine"],
            &["row"],
            &["comparison", "report"],
            &["rows"],
        ],
    },
    Entry { name: "benchmarks of the service", root: "benches/service.rs", layers: &[] },
    Entry { name: "benchmarks of the keeper", root: "benches/cluster.rs", layers: &[] },
    Entry { name: "tests of the helper", root: "tests/cli/main.rs", layers: &[] },
    Entry { name: "tests with several users", root: "tests/users/main.rs", layers: &[] },
    Entry { name: "tests of the keeper", root: "tests/cluster/main.rs", layers: &[] },
    Entry { name: "tests of the service", root: "tests/service/main.rs", layers: &[] },
    Entry {
        name: "torture",
        root: "tests/torture/main.rs",
        layers: &[
            &["environment", "kernel", "lock_rules", "random", "stage", "syscalls"],
            &["order_rules"],
            &["checker"],
            &["history", "place", "sample_histories"],
            &["order_payloads", "policy_payloads"],
            &["disturbances", "driver", "isolation", "payload"],
            &["scene"],
            &["scenes", "slot"],
            &["contention"],
            &["policy_actions"],
            &["order_actions"],
            &["actions", "steps"],
            &["walk"],
            &["suite"],
        ],
    },
    Entry { name: "models", root: "tests/models/main.rs", layers: &[] },
    Entry {
        name: "checks of the source",
        root: "tests/source/main.rs",
        layers: &[
            &["comments", "finding", "modules"],
            &["imports", "files", "phrases"],
            &["cycles", "layers", "link_order"],
            &["programs"],
            &["catalogue", "exceptions", "names"],
        ],
    },
];

/// Returns true for a Rust file that is a program of its own, or a module that only tests have.
pub(crate) fn is_alone(file: &str) -> bool {
    file.starts_with("tests/fuzz/targets/")
        || file.ends_with("/build.rs")
        || file.ends_with("/properties.rs")
        || file.ends_with("/tests.rs")
}

/// Returns the name of the program that a file belongs to. The root of that program is in the folder of the file, or in
/// the nearest folder above that has a root.
pub(crate) fn owner(file: &str) -> Option<&'static str> {
    // The options of the keeper and the service, which the helper includes, too, and their pages, which it alone includes.
    match file.strip_prefix("src/bin/definitions/") {
        Some("keeper.rs") => return Some("keeper"),
        Some("service.rs") => return Some("service"),
        Some(_) => return Some("helper"),
        None => {}
    }
    let folder_of = |entry: &Entry| entry.root.rsplit_once('/').map_or("", |(folder, _)| folder).len();
    let is_above = |entry: &&Entry| file.get(..=folder_of(entry)) == entry.root.get(..=folder_of(entry));
    let above: Vec<&Entry> = PROGRAMS.iter().filter(is_above).collect();
    let exact = above.iter().find(|entry| entry.root == file);
    // If a folder holds several programs, the first one owns all files that are not the root of another.
    let first = above.iter().rev().max_by_key(|entry| folder_of(entry));
    exact.or(first).map(|entry| entry.name)
}

#[test]
fn a_file_belongs_to_the_program_in_the_nearest_folder() {
    assert_eq!(owner("src/bin/aba-lock-keeper/settings.rs"), Some("keeper"));
    assert_eq!(owner("src/bin/definitions/keeper.rs"), Some("keeper"));
    assert_eq!(owner("src/bin/definitions/service_manual.rs"), Some("helper"));
    assert_eq!(owner("src/bin/aba-lock/args.rs"), Some("helper"));
    assert_eq!(owner("src/lock/wait.rs"), Some("library"));
    assert_eq!(owner("benches/rows/list.rs"), Some("benchmarks"));
    assert_eq!(owner("benches/cluster.rs"), Some("benchmarks of the keeper"));
    assert_eq!(owner("shell/aba-lock.bash"), None);
}
