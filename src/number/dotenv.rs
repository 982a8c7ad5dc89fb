//! Variables in a file such as `.env`, among lines that are not ours.

#[cfg(any(test, fuzzing))]
pub mod properties;

/// The content with these variables set. A line that sets one is replaced, each of them if there are several; what is
/// missing is added at the end. All other lines stay as they are, byte by byte.
#[must_use]
pub fn set_variables(old: &[u8], variables: &[(String, u32)]) -> Vec<u8> {
    let mut new = set_once(old, variables);
    loop {
        // With a value of ours a quote may go that no other closed. Another, further up, may then reach to the one after
        // it, and hide our line: so it is looked at again, until all can be seen.
        let again = set_once(&new, variables);
        if again == new {
            return new;
        }
        new = again;
    }
}

fn set_once(old: &[u8], variables: &[(String, u32)]) -> Vec<u8> {
    let mut new = Vec::with_capacity(old.len() + 64);
    let mut missing: Vec<&(String, u32)> = variables.iter().collect();
    let lines: Vec<&[u8]> = old.split_inclusive(|byte| *byte == b'\n').collect();
    let mut end: &[u8] = b"\n";
    let mut at = 0;
    while let Some(line) = lines.get(at).copied() {
        at += 1;
        if line.ends_with(b"\r\n") {
            end = b"\r\n";
        }
        let set = parse_setting(line);
        let ours = set.and_then(|(name, _)| variables.iter().find(|(ours, _)| ours.as_bytes() == name));
        match (set, ours) {
            (Some((_, value)), Some((name, number))) => {
                new.extend_from_slice(&line[..line.len() - value.len()]);
                new.extend_from_slice(number.to_string().as_bytes());
                new.extend_from_slice(if line.ends_with(b"\r\n") { b"\r\n" } else { b"\n" });
                missing.retain(|(other, _)| other != name);
                // They go with it, so nothing may be among them that could be somebody's: a quote too many, and a
                // later one that seems to close it, are more likely than a number over several lines.
                let more = &lines[at..at + count_continued_lines(value, &lines[at..])];
                if !more.iter().any(|line| parse_setting(line).is_some() || line.trim_ascii_start().starts_with(b"#")) {
                    at += more.len();
                }
            }
            (Some((_, value)), None) => {
                new.extend_from_slice(line);
                // What is in quotes may look like a line of ours.
                let more = count_continued_lines(value, &lines[at..]);
                new.extend(lines[at..at + more].concat());
                at += more;
            }
            _ => new.extend_from_slice(line),
        }
    }
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.extend_from_slice(end);
    }
    for (name, number) in missing {
        new.extend_from_slice(format!("{name}={number}").as_bytes());
        new.extend_from_slice(end);
    }
    new
}

/// The name and the value, with the end of the line, where a line sets a variable.
fn parse_setting(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = line.trim_ascii_start();
    let text = match text.strip_prefix(b"export") {
        Some(rest) if rest.starts_with(b" ") || rest.starts_with(b"\t") => rest.trim_ascii_start(),
        _ => text,
    };
    let at = text.iter().position(|byte| *byte == b'=')?;
    let name = text[..at].trim_ascii_end();
    let plain = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte));
    plain.then_some((name, &text[at + 1..]))
}

/// How many of the lines that follow belong to a value: those up to where the quote closes that it begins with. None if it
/// closes nowhere, or in the middle of something else: then the quote is a mistake, and the value ends with its line.
fn count_continued_lines(value: &[u8], following: &[&[u8]]) -> usize {
    let value = value.trim_ascii();
    let Some(quote) = value.first().copied().filter(|byte| b"\"'`".contains(byte)) else { return 0 };
    if find_text_after_quote(&value[1..], quote).is_some() {
        return 0;
    }
    let close = following.iter().enumerate().find_map(|(at, line)| Some((at, find_text_after_quote(line, quote)?)));
    let Some((at, after)) = close else { return 0 };
    let after = after.trim_ascii();
    if after.is_empty() || after.starts_with(b"#") { at + 1 } else { 0 }
}

/// What stands after the quote that closes.
fn find_text_after_quote(text: &[u8], quote: u8) -> Option<&[u8]> {
    let mut escaped = false;
    let at = text.iter().position(|byte| {
        let ends = *byte == quote && !escaped;
        escaped = *byte == b'\\' && !escaped && quote == b'"';
        ends
    })?;
    Some(&text[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(old: &str) -> String {
        String::from_utf8(set_variables(old.as_bytes(), &[("WEB_PORT".into(), 5000), ("DB_PORT".into(), 5001)]))
            .unwrap()
    }

    #[test]
    fn our_lines_are_replaced_and_the_others_stay() {
        assert_eq!(set(""), "WEB_PORT=5000\nDB_PORT=5001\n");
        assert_eq!(set("A=1\nWEB_PORT=1\nB=2"), "A=1\nWEB_PORT=5000\nB=2\nDB_PORT=5001\n");
        assert_eq!(set("export WEB_PORT = 'x' # y\n"), "export WEB_PORT =5000\nDB_PORT=5001\n");
        assert_eq!(set("DB_PORT=1\r\nC=3\r\n"), "DB_PORT=5001\r\nC=3\r\nWEB_PORT=5000\r\n");
        assert_eq!(set("#WEB_PORT=1\nMY_WEB_PORT=1\nWEB_PORTS=1\n").lines().count(), 5);
        assert_eq!(set("DB_PORT=1\nDB_PORT=2\n"), "DB_PORT=5001\nDB_PORT=5001\nWEB_PORT=5000\n");
        assert_eq!(set("DB_PORT=1"), "DB_PORT=5001\nWEB_PORT=5000\n");
    }

    #[test]
    fn what_is_in_quotes_over_several_lines_is_not_ours() {
        let key = "KEY=\"a\nWEB_PORT=1\n\\\"\nb\"\n";
        assert_eq!(set(key), format!("{key}WEB_PORT=5000\nDB_PORT=5001\n"));
        assert_eq!(set("WEB_PORT='1\n2'\nDB_PORT=\"x\"\n"), "WEB_PORT=5000\nDB_PORT=5001\n");
    }

    #[test]
    fn a_quote_that_does_not_close_ends_with_its_line() {
        let rest = "API_KEY=sk\nNAME=it\n# end\n";
        for value in ["\"3000", "'", "`", "\"a\\\""] {
            assert_eq!(set(&format!("WEB_PORT={value}\n{rest}")), format!("WEB_PORT=5000\n{rest}DB_PORT=5001\n"));
            let foreign = format!("A={value}\nWEB_PORT=1\n");
            assert_eq!(set(&foreign), format!("A={value}\nWEB_PORT=5000\nDB_PORT=5001\n"));
        }
        // One that seems to, further down.
        for rest in ["A=\"x\"\n", "A=1\nB=x\"\n", "# 5\"\n", "# 5\" disk\n"] {
            assert_eq!(set(&format!("WEB_PORT=\"1\n{rest}")), format!("WEB_PORT=5000\n{rest}DB_PORT=5001\n"));
        }
        // One that goes with our value, and held two others apart: then ours is added where it can be seen.
        let apart = "A=\"x\nWEB_PORT=\"y\nB=1\"\n";
        let ours = "A=\"x\nWEB_PORT=5000\nB=1\"\nDB_PORT=5001\nWEB_PORT=5000\n";
        assert_eq!((set(apart), set(&set(apart))), (ours.to_owned(), ours.to_owned()));
        assert_eq!(set("A=\"x\nWEB_PORT=1\nB=\"y\"\n"), "A=\"x\nWEB_PORT=5000\nB=\"y\"\nDB_PORT=5001\n");
    }
}
