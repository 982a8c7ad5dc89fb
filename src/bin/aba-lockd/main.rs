//! The `aba-lockd` command: parse, run, exit.

fn main() {}
