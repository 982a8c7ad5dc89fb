//! The command `aba-lockd token new`.

use crate::harness::{LIST, LOCK, PROGRAM, Start, request_body};
use std::fs::File;
use std::process::{Command, Output, Stdio};

fn run_token_new(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(["token", "new"]).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Returns the token and the line that the command prints.
fn create_token(args: &[&str]) -> (String, String) {
    let output = run_token_new(args);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [token, line] = lines[..] else { panic!("{text}") };
    (token.to_owned(), line.to_owned())
}

#[test]
fn the_line_of_a_new_token_permits_its_calls_and_does_not_contain_it() {
    let (ci, ci_line) = create_token(&["ci"]);
    let (board, board_line) = create_token(&["board", "--permission", "lock:read:web*"]);
    let (both, both_line) =
        create_token(&["both", "--permission=lock:read", "--permission", "lock:write:x,lock:admin:y"]);
    assert!(ci_line.ends_with(" lock:read,lock:write") && both_line.ends_with(" lock:read,lock:write:x,lock:admin:y"));
    for (token, line) in [(&ci, &ci_line), (&board, &board_line), (&both, &both_line)] {
        assert!(!line.contains(token.as_str()) && token.starts_with("abalock_"), "{token} {line}");
    }
    assert_ne!(ci, create_token(&["ci"]).0);
    let service = Start::new().token_file(&format!("{ci_line}\n{board_line}\n{both_line}\n")).start();
    let status = |token: &str, method, path, body: &str| {
        service.connect().call(method, path, &[("X-Api-Key", token)], body).status
    };
    assert_eq!(status(&ci, "POST", LOCK, &request_body("db", "ann", "")), 200);
    assert_eq!(status(&board, "POST", LOCK, &request_body("db", "ann", "")), 403);
    assert_eq!((status(&board, "GET", LIST, ""), status("abalock_", "GET", LIST, "")), (200, 401));
}

#[test]
fn a_wrong_name_or_permission_is_refused_and_nothing_is_printed() {
    for (args, message) in [
        (&["a b"][..], "invalid name"),
        (&["a\nroot sha256:00 lock:admin"], "invalid name"),
        (&["a\r"], "invalid name"),
        (&[""], "invalid name"),
        (&["#a"], "invalid name"),
        (&["a", "--permission", "lock:all"], "unknown permission lock:all"),
        (&["a", "--permission", "lock:read:"], "no service follows the colon"),
        (&["a", "--permission", "lock:write:team a"], "write %20"),
        (&["a", "--permission", ""], "unknown permission"),
        (&[], "missing argument: NAME"),
    ] {
        let output = run_token_new(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {errors}");
        assert!(errors.starts_with("aba-lockd: ") && errors.contains(message), "{args:?}: {errors}");
        assert!(!args.is_empty() || errors.contains("see `aba-lockd token new --help`"), "{errors}");
    }
}

#[test]
fn a_token_that_cannot_be_printed_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output =
        Command::new(PROGRAM).args(["token", "new", "ci"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("aba-lockd: cannot print the token: "), "{errors}");
}
