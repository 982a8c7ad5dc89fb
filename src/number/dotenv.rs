//! Changes of variables in a file such as `.env`, for `reserve --dotenv`. All other lines of the file are kept.

#[cfg(any(test, fuzzing))]
pub mod properties;

/// Returns the content with the variables set. Each line that sets one of them is replaced, and missing variables are
/// appended. All other lines stay the same, byte by byte.
#[must_use]
pub fn set_variables(old: &[u8], variables: &[(String, u32)]) -> Vec<u8> {
    let mut new = set_once(old, variables);
    loop {
        // The replaced value may have contained an unbalanced quote. Without that quote, a quoted value in an earlier
        // line may extend to a later line and hide a line that was just written. So the result is processed again until
        // it does not change.
        let again = set_once(&new, variables);
        if again == new {
            return new;
        }
        new = again;
    }
}

/// Replaces and appends lines, without a second look at the result.
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
                // The continuation of the old value is removed with it, unless it contains a setting or a comment: then
                // an unbalanced quote, and a later quote that seems to close it, are more likely than a number on
                // several lines.
                let more = &lines[at..at + count_continued_lines(value, &lines[at..])];
                if !more.iter().any(|line| parse_setting(line).is_some() || line.trim_ascii_start().starts_with(b"#")) {
                    at += more.len();
                }
            }
            (Some((_, value)), None) => {
                new.extend_from_slice(line);
                // A quoted value may contain a line that looks like one of the variables.
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

/// Parses a line that sets a variable. Returns its name, and its value with the line ending.
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

/// Returns how many of the following lines belong to a value: the lines up to the one that closes its quote. Returns 0
/// if no line closes it, or if text follows the closing quote: then the quote is a mistake, and the value ends with its
/// line.
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

/// Returns the text after the closing quote.
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
    fn lines_of_the_variables_are_replaced_and_others_stay() {
        assert_eq!(set(""), "WEB_PORT=5000\nDB_PORT=5001\n");
        assert_eq!(set("A=1\nWEB_PORT=1\nB=2"), "A=1\nWEB_PORT=5000\nB=2\nDB_PORT=5001\n");
        assert_eq!(set("export WEB_PORT = 'x' # y\n"), "export WEB_PORT =5000\nDB_PORT=5001\n");
        assert_eq!(set("DB_PORT=1\r\nC=3\r\n"), "DB_PORT=5001\r\nC=3\r\nWEB_PORT=5000\r\n");
        assert_eq!(set("#WEB_PORT=1\nMY_WEB_PORT=1\nWEB_PORTS=1\n").lines().count(), 5);
        assert_eq!(set("DB_PORT=1\nDB_PORT=2\n"), "DB_PORT=5001\nDB_PORT=5001\nWEB_PORT=5000\n");
        assert_eq!(set("DB_PORT=1"), "DB_PORT=5001\nWEB_PORT=5000\n");
    }

    #[test]
    fn quoted_text_on_several_lines_is_kept() {
        let key = "KEY=\"a\nWEB_PORT=1\n\\\"\nb\"\n";
        assert_eq!(set(key), format!("{key}WEB_PORT=5000\nDB_PORT=5001\n"));
        assert_eq!(set("WEB_PORT='1\n2'\nDB_PORT=\"x\"\n"), "WEB_PORT=5000\nDB_PORT=5001\n");
    }

    #[test]
    fn a_value_with_an_unbalanced_quote_ends_with_its_line() {
        let rest = "API_KEY=sk\nNAME=it\n# end\n";
        for value in ["\"3000", "'", "`", "\"a\\\""] {
            assert_eq!(set(&format!("WEB_PORT={value}\n{rest}")), format!("WEB_PORT=5000\n{rest}DB_PORT=5001\n"));
            let foreign = format!("A={value}\nWEB_PORT=1\n");
            assert_eq!(set(&foreign), format!("A={value}\nWEB_PORT=5000\nDB_PORT=5001\n"));
        }
        // A quote that seems to be closed in a later line.
        for rest in ["A=\"x\"\n", "A=1\nB=x\"\n", "# 5\"\n", "# 5\" disk\n"] {
            assert_eq!(set(&format!("WEB_PORT=\"1\n{rest}")), format!("WEB_PORT=5000\n{rest}DB_PORT=5001\n"));
        }
        // A quote that is removed with the value, and that separated two others. The variable is appended where it is
        // visible.
        let apart = "A=\"x\nWEB_PORT=\"y\nB=1\"\n";
        let ours = "A=\"x\nWEB_PORT=5000\nB=1\"\nDB_PORT=5001\nWEB_PORT=5000\n";
        assert_eq!((set(apart), set(&set(apart))), (ours.to_owned(), ours.to_owned()));
        assert_eq!(set("A=\"x\nWEB_PORT=1\nB=\"y\"\n"), "A=\"x\nWEB_PORT=5000\nB=\"y\"\nDB_PORT=5001\n");
    }
}
