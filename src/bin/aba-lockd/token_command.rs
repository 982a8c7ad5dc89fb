//! The command `token new`: prints a new token, and the line for the token file.

use crate::args::NewTokenOptions;
use crate::error::StartError;
use crate::permission::Permission;
use crate::{credential, report, token_file};

/// Prints the token, which is stored nowhere, and its line.
pub(crate) fn create_token(options: &NewTokenOptions) -> Result<(), StartError> {
    let NewTokenOptions { name, permissions } = options;
    token_file::check_name(name).map_err(|why| StartError::usage(format!("invalid name {name:?}: {why}")))?;
    for permission in permissions {
        Permission::parse(permission).map_err(StartError::usage)?;
    }
    let token = credential::new_token().map_err(StartError::new)?;
    report::print_token(&token, &token_file::format_line(name, &token, &permissions.join(",")))
}
