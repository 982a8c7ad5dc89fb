//! Tab completion: answers the shells when they ask, through clap's engine. What they are given to ask with
//! (`ABA_LOCK_COMPLETE=bash aba-lock`) is committed under `completions/`.
//!
//! These scripts are our own, because clap's fall short of what a lock name can be and of where they are installed:
//! its bash script loses names with `:` or `@`, at which bash takes words apart, its zsh script answers only from
//! the second TAB on when zsh loads it by itself, and none of them completes the command after `--`. What to offer is
//! still the engine's to say. Only files and commands are left to the shell, which knows `~`, quoting and aliases:
//! for these the answer is [`FILES`] or [`COMMAND`].

use crate::args::Cli;
use aba_lock::holders::{self, Belief, State};
use aba_lock::store::Store;
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

/// The answer that leaves it to the shell to offer files. No name, option or command is like it.
const FILES: &str = "<files>";

/// The answer that leaves it to the shell to complete the command line after `--`.
const COMMAND: &str = "<command>";

/// Answers and ends the process if a shell asks (in the variable `ABA_LOCK_COMPLETE`), else does nothing.
pub(crate) fn answer_shell() {
    let shells: [&dyn EnvCompleter; 3] = [
        &Shell { engine: &Bash, script: BASH },
        &Shell { engine: &Zsh, script: ZSH },
        &Shell { engine: &Fish, script: FISH },
    ];
    CompleteEnv::with_factory(command).var("ABA_LOCK_COMPLETE").shells(Shells(&shells)).complete();
}

/// A shell as clap answers it, with a script of our own to ask with.
struct Shell {
    engine: &'static dyn EnvCompleter,
    script: &'static str,
}

impl EnvCompleter for Shell {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn is(&self, name: &str) -> bool {
        self.engine.is(name)
    }

    fn write_registration(&self, _: &str, _: &str, _: &str, _: &str, to: &mut dyn io::Write) -> io::Result<()> {
        to.write_all(self.script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        words: Vec<OsString>,
        directory: Option<&Path>,
        to: &mut dyn io::Write,
    ) -> io::Result<()> {
        // The engine does not know that `--` ends the names: it would offer more of them.
        let escaped = words.iter().rev().skip(1).any(|word| word == "--");
        let asked = words.get(1).and_then(|name| command.find_subcommand(name));
        if escaped && asked.is_some_and(|asked| asked.get_positionals().any(Arg::is_last_set)) {
            return to.write_all(COMMAND.as_bytes());
        }
        self.engine.write_complete(command, words, directory, to)
    }
}

/// The command line with what only completion needs to know, so that no other call pays for it.
fn command() -> Command {
    let mut command = Cli::command();
    // Now, so that each command has its --help when its arguments are gone through.
    command.build();
    command.mut_subcommands(|command| command.mut_args(completed))
}

/// What to offer for an argument is seen from what its help calls it, so that a new command needs nothing here.
fn completed(arg: Arg) -> Arg {
    let named = |name: &str| arg.get_value_names().is_some_and(|names| names == [name]);
    let files = |_: &OsStr| vec![CompletionCandidate::new(FILES)];
    let arg = match arg.get_value_hint() {
        _ if named("NAME") => arg.add(ArgValueCompleter::new(lock_names)),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => arg.add(ArgValueCompleter::new(files)),
        _ => arg,
    };
    // The engine offers what is hidden when there is nothing else: here, options where there is no name to offer.
    let is_option = !arg.is_positional();
    arg.hide(is_option)
}

/// The names that there are, the held ones described.
fn lock_names(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Ok(store)) = (current.to_str(), Store::from_env()) else { return Vec::new() };
    let names: Vec<_> = store.names().into_iter().filter(|name| name.as_str().starts_with(current)).collect();
    let paths: Vec<_> = names.iter().map(|name| store.lock_path(name)).collect();
    let states = holders::of_all(&paths);
    let candidate =
        |(name, state): (_, &State)| CompletionCandidate::new(format!("{name}")).help(said(state).map(Into::into));
    names.iter().zip(&states).map(candidate).collect()
}

fn said(state: &State) -> Option<String> {
    let holding = state.holding.as_ref()?;
    Some(match (&holding.record, holding.holders.first()) {
        (Some((record, Belief::Alive)), _) => format!("held by pid {} ({})", record.pid, record.command),
        (_, Some(holder)) => format!("held by pid {} ({})", holder.pid, holder.command),
        _ => "held".to_owned(),
    })
}

/// Installed where bash-completion looks, which reads it at the first TAB, or sourced. For bash 3.2, too.
const BASH: &str = r#"# Tab completion of aba-lock for bash: the helper answers. Written by `make completions`.
# shellcheck shell=bash

_aba_lock() {
    local rest=${COMP_LINE:0:COMP_POINT} i word answer cut
    local -a words=()
    COMPREPLY=()
    # Bash takes words apart at COMP_WORDBREAKS, among them `:`, `@` and `=`: put together what no blank is between.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 0)) && [[ ${rest} != [[:space:]]* ]]; then
            ((i < COMP_CWORD)) || word=${rest}
            words[${#words[@]} - 1]+=${word}
        else
            rest=${rest#"${rest%%[![:space:]]*}"}
            ((i < COMP_CWORD)) || word=${rest}
            words+=("${word}")
        fi
        rest=${rest#"${word}"}
    done
    word=${words[${#words[@]} - 1]#[\"\']}
    words[${#words[@]} - 1]=${word}
    # What is in front of the part of the word that readline will replace.
    cut=${word%"$2"}

    answer=$(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) ABA_LOCK_COMPLETE=bash \
            command aba-lock -- "${words[@]}" 2>/dev/null
    ) || return 0
    case ${answer} in
        *'<files>')
            _aba_lock_files "$2"
            ;;
        '<command>')
            i=1
            while [[ ${COMP_WORDS[i]} != -- ]]; do
                i=$((i + 1))
            done
            i=$((i + 1))
            if declare -F _command_offset >/dev/null; then
                _command_offset "${i}"
            elif ((i == COMP_CWORD)) && [[ $2 != */* ]]; then
                _aba_lock_reply '' "$(compgen -c -- "$2" || true)"
            else
                _aba_lock_files "$2"
            fi
            ;;
        *)
            _aba_lock_reply "${cut}" "${answer}"
            ;;
    esac
}

# Offers the lines of $2 without the $1 that they begin with.
_aba_lock_reply() {
    local line
    while IFS= read -r line; do
        [[ -z ${line} ]] || COMPREPLY+=("${line#"$1"}")
    done <<<"$2"
}

# Offers files as bash does by itself, if it is new enough to be asked for that.
_aba_lock_files() {
    compopt -o bashdefault -o default 2>/dev/null || _aba_lock_reply '' "$(compgen -f -- "$1" || true)"
}

# In the helper's order, which is that of its help, where bash has a word for that.
complete -o nosort -F _aba_lock aba-lock 2>/dev/null || complete -F _aba_lock aba-lock
"#;

/// Installed in a directory of `fpath`, or sourced.
const ZSH: &str = r#"#compdef aba-lock
# Tab completion of aba-lock for zsh: the helper answers. Written by `make completions`.

_aba-lock() {
    local answer prefix
    answer=$(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) ABA_LOCK_COMPLETE=zsh \
            command aba-lock -- "${(@Q)words[1,CURRENT-1]}" "${PREFIX}" 2>/dev/null
    )
    case ${answer} in
        '')
            return 1
            ;;
        *'<files>')
            prefix=${answer%'<files>'}
            [[ -z ${prefix} ]] || compset -P "${prefix}"
            _files
            ;;
        '<command>')
            integer offset=${words[(i)--]}
            words=("${(@)words[offset+1,-1]}")
            ((CURRENT -= offset))
            _normal
            ;;
        *)
            local -a candidates=("${(@f)answer}")
            _describe -V 'aba-lock' candidates
            ;;
    esac
}

# Loaded by zsh at the first TAB, this file is the body of the function that is to answer it.
if [[ ${funcstack[1]} == _aba-lock ]]; then
    _aba-lock "$@"
else
    compdef _aba-lock aba-lock
fi
"#;

/// Installed in a directory of `fish_complete_path`, or sourced.
const FISH: &str = r#"# Tab completion of aba-lock for fish: the helper answers. Written by `make completions`.

function __aba_lock_complete
    command --query aba-lock; or return
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l word (commandline --current-token --cut-at-cursor)
    # A quote may be open.
    set -l text (string trim --left --chars '\'"' -- "$word")
    set -l answer (ABA_LOCK_COMPLETE=fish command aba-lock -- $words "$text" 2>/dev/null)
    switch "$answer"
        case '*<files>'
            set -l prefix (string replace '<files>' '' -- $answer)
            set -l path (string sub --start (math (string length -- "$prefix") + 1) -- $word)
            string replace --regex '^' -- "$prefix" (complete --do-complete "'' $path")
        case '<command>'
            set -l offset (contains --index -- -- $words)
            complete --do-complete (string join -- ' ' (string escape -- $words[(math $offset + 1)..]) "$word")
        case '*'
            printf '%s\n' $answer
    end
end

complete --keep-order --exclusive --command aba-lock --arguments '(__aba_lock_complete)'
"#;
