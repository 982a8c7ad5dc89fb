//! Black-box tests of the helper: its output, its exit status, and the files and locks that other processes see.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "these lints are for the program; tests may panic, print, and call the system directly"
)]

// The options of the binary and the parser of plain calls. A binary cannot be imported.
#[allow(dead_code, reason = "the tests use little of it")]
#[path = "../../src/bin/aba-lock/args/mod.rs"]
mod args;
#[path = "../../src/bin/aba-lock/parse/plain.rs"]
mod plain;
#[path = "../../src/bin/aba-lock/manual/text/mod.rs"]
mod text;

mod background_wait;
#[cfg(feature = "bench")]
mod bench;
mod call;
mod clean;
mod coalesce;
mod coalesce_faults;
mod command;
mod cron;
mod deadlock;
mod denied_threads;
mod doctor;
mod doctor_environment;
mod events;
mod fault;
mod fcntl;
mod fcntl_unlock;
mod file_lease;
mod flock;
mod flock_comparison;
mod flock_range;
mod flock_replacement;
mod hostile_files;
mod inheritance;
mod json_fields;
mod keeper_options;
mod key;
mod kill;
mod kill_waiter;
mod linked_file;
mod list;
mod lock;
mod lock_contention;
mod lock_descriptor;
mod lock_replacement;
mod log;
mod log_ends;
mod log_faults;
mod log_lookup;
mod manual;
mod max_time;
mod metrics;
mod misuse;
mod namespace;
mod no_deadlock;
mod own_mode;
mod pid_file;
mod plain_parser;
mod priority;
mod proc_locks;
mod process;
mod queue;
mod random;
mod repeated_options;
mod replace;
mod replace_faults;
mod reserve;
mod reserve_contention;
mod reserve_faults;
mod reserve_group;
mod reserve_lease;
mod reserve_port;
mod reserve_prune;
mod reserve_registry;
mod run_once;
mod run_once_contention;
mod run_once_function;
mod run_once_limit;
mod run_once_namespace;
mod run_once_options;
mod run_once_outcome;
mod run_once_process;
mod run_once_reset;
mod run_once_wait;
mod scene;
mod slot_scripts;
mod slots;
mod slots_random;
mod snippet_table;
mod snippets;
mod stalled_holder;
mod state_root;
mod status;
mod status_oracle;
mod status_shortcut;
mod sudo;
mod terminal;
mod time_limit;
mod turnstile;
mod update;
mod update_change;
mod update_faults;
mod update_lock;
mod update_user;
mod usage;
mod variables;
mod visibility;
mod wait;
mod wait_free;
mod waiters;
