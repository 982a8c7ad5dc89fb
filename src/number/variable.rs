//! The names of the environment variables in which numbers are printed, and the check that such a name is safe to
//! evaluate in a shell.

use super::pool::{Pool, Tag};

/// Returns the default variable of a tag: `WEB_PORT` for the tag `web` of the pool `ports`, and `PORT` without a tag.
/// For another pool, the name of the pool replaces `PORT`.
pub(super) fn derive_variable(pool: &Pool, tag: &Tag) -> String {
    let unit = if pool.is_ports() { "port" } else { pool.as_str() };
    let name = if tag.as_str().is_empty() { unit.to_owned() } else { format!("{}_{unit}", tag.as_str()) };
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// Returns true if shells accept `name` as the name of a variable.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Variables with these prefixes have a special meaning.
const TAKEN_PREFIXES: [&str; 8] = ["ABA_", "BASH", "DYLD_", "FISH_", "LC_", "LD_", "MALLOC_", "ZSH_"];

/// Variables with a special meaning. A number in one of them would harm the script that evaluates it, or bash, dash,
/// zsh or fish would refuse the assignment.
const TAKEN: &str = "ARGC ARGV CDPATH CLASSPATH CMD_DURATION COLUMNS COMPREPLY COMP_CWORD COMP_LINE COMP_POINT COMP_WORDS COPROC \
    DIRSTACK EDITOR EGID ENV EPOCHREALTIME EPOCHSECONDS ERRNO EUID EXECIGNORE FCEDIT FIGNORE FPATH FUNCNAME \
    FUNCNEST GID GLOBIGNORE GROUPS HISTCMD HISTCONTROL HISTFILE HISTFILESIZE HISTIGNORE HISTORY HISTSIZE HOME \
    HOSTNAME HOSTTYPE IFS IGNOREEOF INPUTRC JAVA_TOOL_OPTIONS KEYTIMEOUT LANG LANGUAGE LINENO LINES LOGNAME \
    MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE MODULE_PATH NODE_OPTIONS NODE_PATH NULLCMD OLDPWD OPTARG OPTERR \
    OPTIND OSTYPE PAGER PATH PERL5LIB PERL5OPT PIPEFAIL PIPESTATUS POSIXLY_CORRECT PPID PROMPT PROMPT_COMMAND PS0 \
    PS1 PS2 PS3 PS4 PWD PYTHONHOME PYTHONPATH PYTHONSTARTUP RANDOM READLINE_LINE REPLY RPROMPT RUBYLIB RUBYOPT \
    RUN_ONCE_DIR SECONDS SHELL SHELLOPTS SHLVL SRANDOM STATUS TERM TIMEFORMAT TMOUT TMPDIR TTYIDLE UID UMASK USER \
    USERNAME VERSION VISUAL _";

/// Returns true if a variable has a special meaning. Case is ignored: zsh has `path` and `status`, and fish has
/// `version`.
#[must_use]
pub fn has_special_meaning(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    TAKEN.split_ascii_whitespace().any(|taken| taken == name)
        || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
