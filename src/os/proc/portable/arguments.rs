//! Parses the buffer of `kern.procargs2` (macOS): the number of words, the path of the program, NUL bytes, the words, and the environment.

use super::bytes::i32_at;
use super::facts::Arguments;

/// Parses the buffer. `None` if it is too short, or has no number of words. If it ends within the words, those that are there are
/// returned.
pub(super) fn parse_arguments(bytes: &[u8]) -> Option<Arguments> {
    let count = usize::try_from(i32_at(bytes, 0)?).ok()?;
    let rest = bytes.get(4..)?;
    let path_len = rest.iter().position(|byte| *byte == 0)?;
    let padding = rest[path_len..].iter().take_while(|byte| **byte == 0).count();
    let rest = &rest[path_len + padding..];
    let mut end = 0;
    for _ in 0..count {
        let Some(len) = rest[end..].iter().position(|byte| *byte == 0) else {
            end = rest.len();
            break;
        };
        end += len + 1;
    }
    let mut words = rest[..end].to_vec();
    if words.last().is_some_and(|byte| *byte != 0) {
        words.push(0);
    }
    // An empty text ends the environment; other data of the kernel follow.
    let environment = &rest[end..];
    let len = environment.windows(2).position(|two| two == [0, 0]).map_or(environment.len(), |at| at + 1);
    let environment = if environment.first() == Some(&0) { Vec::new() } else { environment[..len].to_vec() };
    Some(Arguments { words, environment })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(count: i32, rest: &[u8]) -> Option<Arguments> {
        parse_arguments(&[&count.to_ne_bytes(), rest].concat())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with the result of `parse`")]
    fn arguments(words: &[u8], environment: &[u8]) -> Option<Arguments> {
        Some(Arguments { words: words.to_vec(), environment: environment.to_vec() })
    }

    #[test]
    fn words_and_environment_are_separated_by_the_number_of_words() {
        let buffer = b"/bin/sleep\0\0\0\0sleep\0\x31\0HOME=/root\0A=\0\0stack_guard=1\0";
        assert_eq!(parse(2, buffer), arguments(b"sleep\x001\0", b"HOME=/root\0A=\0"));
        assert_eq!(parse(0, b"/bin/true\0\0A=1\0"), arguments(b"", b"A=1\0"));
        assert_eq!(parse(2, b"/bin/true\0true\0\0A=1\0"), arguments(b"true\0\0", b"A=1\0"), "the second word is empty");
        assert_eq!(parse(1, b"/bin/true\0true\0"), arguments(b"true\0", b""));
        assert_eq!(parse(1, b"/bin/true\0true\0\0more\0"), arguments(b"true\0", b""));
    }

    #[test]
    fn a_buffer_that_is_cut_or_lies_about_its_words_is_not_read_past_its_end() {
        assert_eq!(parse(3, b"/bin/cat\0cat\0a.tx"), arguments(b"cat\0a.tx\0", b""));
        assert_eq!(parse(i32::MAX, b"/bin/cat\0cat\0a\0"), arguments(b"cat\0a\0", b""));
        assert_eq!(parse(-1, b"/bin/cat\0cat\0"), None);
        assert_eq!(parse(1, b"/bin/cat"), None);
        assert_eq!(parse(1, b"/bin/cat\0\0\0"), arguments(b"", b""));
        assert_eq!(parse(1, b""), None);
        assert_eq!(parse_arguments(&[1, 0, 0]), None);
        let whole = [&2_i32.to_ne_bytes()[..], b"/bin/sleep\0\0sleep\x001\0HOME=/\0\0x\0"].concat();
        for len in 0..whole.len() {
            let _ = parse_arguments(&whole[..len]);
        }
    }
}
