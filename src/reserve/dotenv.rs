//! Variables in a file such as `.env`, among lines that are not ours.

/// The content with these variables set. A line that sets one is replaced, each of them if there are several; what is
/// missing is added at the end. All other lines stay as they are, byte by byte.
#[must_use]
pub fn with(old: &[u8], variables: &[(String, u32)]) -> Vec<u8> {
    let mut new = Vec::with_capacity(old.len() + 64);
    let mut missing: Vec<&(String, u32)> = variables.iter().collect();
    let mut lines = old.split_inclusive(|byte| *byte == b'\n');
    let mut end: &[u8] = b"\n";
    while let Some(line) = lines.next() {
        if line.ends_with(b"\r\n") {
            end = b"\r\n";
        }
        let setting = setting(line);
        let ours = setting.and_then(|(name, _)| variables.iter().find(|(ours, _)| ours.as_bytes() == name));
        match (setting, ours) {
            (Some((_, value)), Some((name, number))) => {
                new.extend_from_slice(&line[..line.len() - value.len()]);
                new.extend_from_slice(number.to_string().as_bytes());
                new.extend_from_slice(if line.ends_with(b"\r\n") { b"\r\n" } else { b"\n" });
                missing.retain(|(other, _)| other != name);
                skip_value(value, &mut lines, |_| {});
            }
            (Some((_, value)), None) => {
                new.extend_from_slice(line);
                // What is in quotes may look like a line of ours.
                skip_value(value, &mut lines, |line| new.extend_from_slice(line));
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
fn setting(line: &[u8]) -> Option<(&[u8], &[u8])> {
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

/// Goes on to the line in which the quotes end that `value` begins with.
fn skip_value<'a>(value: &[u8], lines: &mut impl Iterator<Item = &'a [u8]>, mut seen: impl FnMut(&[u8])) {
    let value = value.trim_ascii();
    let Some(quote) = value.first().copied().filter(|byte| b"\"'`".contains(byte)) else { return };
    if closes(&value[1..], quote) {
        return;
    }
    for line in lines {
        seen(line);
        if closes(line, quote) {
            return;
        }
    }
}

fn closes(text: &[u8], quote: u8) -> bool {
    let mut escaped = false;
    text.iter().any(|byte| {
        let ends = *byte == quote && !escaped;
        escaped = *byte == b'\\' && !escaped && quote == b'"';
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(old: &str) -> String {
        String::from_utf8(with(old.as_bytes(), &[("WEB_PORT".into(), 5000), ("DB_PORT".into(), 5001)])).unwrap()
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
}
