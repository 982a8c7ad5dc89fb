//! Hints about a command that cannot be run.

use aba_lock::base::command_error::CommandError;
use aba_lock::base::environment::is_exported_function;
use aba_lock::base::programs::is_program;
use aba_lock::base::text::quote_path;
use aba_lock::error::Error;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;

/// Builtins and keywords of the shell that are no programs.
const BUILTINS: &[&str] = &[
    ".", "alias", "bg", "cd", "declare", "eval", "exec", "exit", "export", "fg", "for", "if", "let", "local", "popd",
    "pushd", "read", "readonly", "return", "set", "shift", "shopt", "source", "trap", "type", "typeset", "ulimit",
    "umask", "unset", "wait", "while", "{", "(", "!",
];

/// Returns the hint about a command that cannot be run, for the mistakes that its text or its file shows.
pub(super) fn find_command_hint(error: &Error) -> Option<String> {
    let Error::Command(error) = error else { return None };
    match error {
        CommandError::NotFound { command } if command.contains('/') && Path::new(command).is_file() => Some(
            "the file exists, but not the interpreter in its first line, which may end in a carriage return".to_owned(),
        ),
        CommandError::NotFound { command } if BUILTINS.contains(&command.as_str()) => Some(format!(
            "{command} is a builtin of the shell, not a program: run it in a shell, as in `-- sh -c '{command} ...'`"
        )),
        CommandError::NotFound { command } if is_exported_function(OsStr::new(command)) => Some(format!(
            "{command} is a function of the shell, not a program: `-- bash -c '{command} \"$@\"' {command}`"
        )),
        CommandError::NotFound { command } if command.contains(' ') => {
            Some(format!("to run a command line in one word, use a shell: `-- sh -c {}`", shell_words::quote(command)))
        }
        CommandError::Failed { command, source } if source.kind() == ErrorKind::PermissionDenied => {
            let path = Path::new(command);
            let quoted = quote_path(path);
            (command.contains('/') && path.is_file() && !is_program(path)).then(|| {
                format!(
                    "make it executable with `chmod +x {quoted}`, or run it with its interpreter: `-- bash {quoted}`"
                )
            })
        }
        _ => None,
    }
}
