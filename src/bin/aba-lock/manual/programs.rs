//! The pages of the programs that are packages of their own: the keeper of leases and the service.

#[path = "../../definitions/keeper_manual.rs"]
mod keeper_manual;
#[path = "../../definitions/service.rs"]
#[allow(dead_code, reason = "the service reads the values; only the definitions are needed here")]
mod service;
#[path = "../../definitions/service_manual.rs"]
mod service_manual;

use super::terms::{DATE, SOURCE, add_terms, render_beginning};
use crate::keeper_args;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;

/// Returns one line about the service.
pub(super) fn describe_service() -> String {
    service::Cli::command().get_about().cloned().unwrap_or_default().to_string()
}

/// Returns the page of `aba-lock lease`, whose commands the keeper defines: one page describes them all.
pub(super) fn render_lease_page() -> io::Result<Vec<u8>> {
    let mut command = keeper_args::Cli::command();
    command.build();
    let command = command.find_subcommand("lease").ok_or(io::ErrorKind::NotFound)?.clone();
    let command = command
        .name("aba-lock-lease")
        .display_name("aba-lock-lease")
        .bin_name("aba-lock lease")
        .disable_help_flag(true);
    let shown = command.clone().after_help(None::<&str>).after_long_help(None::<&str>);
    let man = Man::new(shown.version(env!("CARGO_PKG_VERSION"))).manual("aba-lock").source(SOURCE).date(DATE);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS AND OPTIONS"]);
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().cloned().unwrap_or_default().to_string();
        roff.control("SS", [command.get_name()]);
        roff.text([roman(format!("{about}."))]);
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let short = argument.get_short().map(|letter| format!("-{letter}, ")).unwrap_or_default();
            roff.control("TP", []);
            let aliases = argument.get_visible_aliases().unwrap_or_default();
            let aliases = aliases.into_iter().fold(String::new(), |text, alias| text + ", --" + alias);
            roff.text([roman(format!("{short}{argument}{aliases}"))]);
            roff.text([roman(argument.get_help().cloned().unwrap_or_default().to_string())]);
        }
    }
    add_terms(&mut roff, "GUARANTEES", &keeper_manual::GUARANTEES);
    add_terms(&mut roff, "EXIT STATUS", &keeper_args::LEASE_STATUS);
    add_terms(&mut roff, "ENVIRONMENT", keeper_args::ENVIRONMENT);
    add_terms(&mut roff, "EXAMPLES", keeper_args::EXAMPLES);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(
        "aba-lock(1), aba-lock-lock(1), aba-lock-machines(7), aba-lock.bash(7), aba-lockd(8), etcdctl(1)",
    )]);
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// Returns the page of the service. It describes the command `serve`, and the command `token new` in a section.
pub(super) fn render_service_page() -> io::Result<Vec<u8>> {
    let mut command = service::Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").ok_or(io::ErrorKind::NotFound)?.clone();
    let about = command.get_long_about().or(command.get_about()).cloned().unwrap_or_default();
    let short = command.get_about().cloned().unwrap_or_default();
    let described = format!("{}\n\n{}", about, serve.get_long_about().cloned().unwrap_or_default());
    let serve = serve
        .name("aba-lockd")
        .display_name("aba-lockd")
        .bin_name("aba-lockd serve")
        .version(env!("CARGO_PKG_VERSION"));
    let serve = serve.about(short).long_about(described).after_help(None::<&str>);
    let man = Man::new(serve).manual("aba-lock").source(SOURCE).date(DATE).section("8");
    let mut text = render_beginning(&man)?;
    let mut roff = Roff::new();
    add_terms(&mut roff, "REST", &service_manual::REST);
    add_terms(&mut roff, "GRPC", &service_manual::GRPC);
    add_terms(&mut roff, "TERRAFORM", &service_manual::TERRAFORM);
    add_terms(&mut roff, "TOKENS", &service_manual::TOKENS);
    add_terms(&mut roff, "TOKEN FILE", &service_manual::TOKEN_FILE);
    add_terms(&mut roff, "SIGNALS", &service_manual::SIGNALS);
    add_terms(&mut roff, "CONNECTIONS", &service_manual::CONNECTIONS);
    add_terms(&mut roff, "GUARANTEES", &service_manual::GUARANTEES);
    add_terms(&mut roff, "EXIT STATUS", &service::EXIT_STATUS);
    add_terms(&mut roff, "ENVIRONMENT", &service_manual::ENVIRONMENT);
    add_terms(&mut roff, "FILES", &service_manual::FILES);
    add_terms(&mut roff, "EXAMPLES", &service_manual::EXAMPLES);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("aba-lock(1), aba-lock-lease(1), aba-lock-machines(7), systemctl(1), curl(1)")]);
    roff.to_writer(&mut text)?;
    Ok(text)
}
