use crate::args::status::StatusArgs;
use crate::exit;
use crate::output::{self, locks, locks::Overall};
use aba_lock::base::target::Target;
use aba_lock::error::Error;
use aba_lock::lock::acquire;
use aba_lock::lock::holders::{self, Known, ranges};
use aba_lock::lock::keeper::{self, Keeper};
use aba_lock::store::Store;
use std::ffi::OsString;

pub(crate) fn run(args: &StatusArgs) -> Result<i32, Error> {
    let target = match (&args.name, &args.file) {
        (Some(name), _) => super::named(&Store::from_env()?, name)?,
        (None, Some(path)) => Target::file(path),
        (None, None) => return Ok(exit::USAGE),
    };
    if let Some(fd) = args.fd {
        let held = acquire::held_through(fd, &target.path)?;
        if args.lease && held.is_some() && keeper::goes_with(fd) {
            let mut words: Vec<OsString> = vec!["lease".into(), "check".into(), format!("--fd={fd}").into()];
            words.extend(args.name.as_ref().map(Into::into));
            return Err(Keeper::find()?.become_it(words, &[]));
        }
        if !args.quiet {
            output::descriptor_status(&target, fd, held);
        }
        return Ok(if held.is_some() { exit::DONE } else { exit::NO });
    }
    holders::can_be_known(&target)?;
    let mut state = holders::of(&target.path);
    if args.file.is_some() {
        state.range = ranges::of(&target.path);
    }
    let mut elsewhere = None;
    if args.file.is_none() && super::is_remote(args.server.as_deref()) {
        elsewhere = Some(super::ask("show", args.name.as_deref(), args.server.as_deref(), args.json)?);
    }
    let at_server = elsewhere.as_ref().map_or(exit::NO, |answer| answer.status);
    let overall = match (state.known(), at_server) {
        (Known::Held, _) => Overall::Held,
        (_, exit::DONE) => Overall::HeldElsewhere,
        (Known::Free, exit::NO) => Overall::Free,
        _ => Overall::Unknown,
    };
    if !args.quiet {
        let say = if args.json { locks::status_json } else { locks::status };
        say(&target, &state, overall, elsewhere.as_ref().map(|answer| answer.text.as_str()));
    }
    Ok(match overall {
        Overall::Held | Overall::HeldElsewhere => exit::DONE,
        Overall::Free => exit::NO,
        // The server could not be asked.
        Overall::Unknown if state.known() == Known::Free => at_server,
        Overall::Unknown => exit::FAILED,
    })
}
