//! Properties of saved commands that hold for all bytes.

use super::SavedCommand;
use crate::properties::{somewhere, values};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Checks the properties for these bytes.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn hold(bytes: &[u8]) {
    let elsewhere = || Some(PathBuf::from("/elsewhere"));
    if let Some(saved) = SavedCommand::parse_script(bytes, elsewhere) {
        assert_can_run(&saved);
        assert_is_read_back(&saved, bytes);
        // Outside of quotes, there is nothing on which a shell acts.
        assert_eq!(check_plain_words(bytes), Some(()), "{}", bytes.escape_ascii());
    }
    let mut words: Vec<OsString> = values(bytes).into_iter().map(OsString::from_vec).collect();
    let directory = words.pop().unwrap_or_default();
    let directory = PathBuf::from(OsString::from_vec([b"/", directory.as_bytes()].concat()));
    if !words.is_empty() {
        assert_is_read_back(&SavedCommand { words, directory }, bytes);
    }
}

fn assert_can_run(saved: &SavedCommand) {
    assert!(!saved.words.is_empty());
    assert!(saved.directory.is_absolute());
    let texts = saved.words.iter().map(|word| word.as_bytes()).chain([saved.directory.as_os_str().as_bytes()]);
    assert!(!texts.flatten().any(|byte| *byte == 0), "no command has a NUL in it");
}

fn assert_is_read_back(saved: &SavedCommand, bytes: &[u8]) {
    let script = saved.to_script();
    assert_eq!(SavedCommand::parse_script(&script, || None).as_ref(), Some(saved));
    // A truncated text is refused: with another directory, or without its last words, it would be another command.
    let cut = &script[..somewhere(bytes, script.len())];
    assert_eq!(SavedCommand::parse_script(cut, || None), None, "cut: {}", cut.escape_ascii());
    // A text with the complete list and no directory is accepted, because the directory may be in `cwd`.
    let whole = SavedCommand { directory: "/".into(), ..saved.clone() }.to_script();
    let list = whole.strip_suffix(b"declare -- directory='/'\n").expect("as it is written");
    if cut != list && cut != list.trim_ascii_end() {
        assert_eq!(SavedCommand::parse_script(cut, || Some("/elsewhere".into())), None, "cut: {}", cut.escape_ascii());
    }
}

/// Reads quotes as bash does. Returns `None` if there is more than plain words outside of quotes.
fn check_plain_words(text: &[u8]) -> Option<()> {
    let text = text.trim_ascii().strip_prefix(b"declare -a command=(")?;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    let mut open = true;
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None | Some(b'"'), b'\\') => drop(bytes.next()?),
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), _) if byte == open => quote = None,
            (None | Some(b'"'), b'$' | b'`') => return None,
            (None, b')') if open => open = false,
            (None, b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'*' | b'?' | b'~' | b'{' | b'}' | b'#' | b'!') => {
                return None;
            }
            _ => {}
        }
    }
    if quote.is_none() && !open { Some(()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    use std::io::Write;
    use std::process::Command;

    #[test]
    fn bash_reads_the_saved_words_back_in_every_character_set() {
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let special = [
            "'", "\"", "\\", "$x", "`x`", "\n", "\t", ")", "(", "[0]=", "!", "~", "*", "\u{1}", "\r", "é", " #", "-n",
            "\\'",
        ];
        let piece = prop_oneof![
            4 => prop::sample::select(special.map(|text| text.as_bytes().to_vec()).to_vec()),
            1 => vec(1..=255_u8, 1..4),
        ];
        let word = vec(piece, 0..6).prop_map(|pieces| pieces.concat());
        let saved = (vec(word.clone(), 1..6), word).prop_map(|(words, directory)| SavedCommand {
            words: words.into_iter().map(OsString::from_vec).collect(),
            directory: PathBuf::from(OsString::from_vec([b"/", &directory[..]].concat())),
        });
        let all: Vec<SavedCommand> =
            (0..500).map(|_| saved.new_tree(&mut runner).expect("there is no condition").current()).collect();

        let scene = tempfile::tempdir().expect("a directory");
        let mut wanted = Vec::new();
        for (number, saved) in all.iter().enumerate() {
            let mut file = std::fs::File::create_new(scene.path().join(format!("{number:03}"))).expect("a file");
            file.write_all(&saved.to_script()).expect("it is written");
            wanted.extend(saved.words.len().to_string().bytes());
            for text in saved.words.iter().map(|word| word.as_bytes()).chain([saved.directory.as_os_str().as_bytes()]) {
                wanted.push(0);
                wanted.extend(text);
            }
            wanted.push(0);
        }
        // With an empty PATH, a text that is read as a command cannot run one.
        let script = r#"PATH=; for file in ./*; do
            unset command directory; source "$file"
            printf '%s\0' "${#command[@]}" "${command[@]}" "$directory"
        done"#;
        for characters in ["C", "C.UTF-8"] {
            let mut bash = Command::new("bash");
            bash.args(["--norc", "--noprofile", "-c", script]).current_dir(scene.path()).env("LC_ALL", characters);
            let output = bash.output().expect("bash runs");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            let (mut got, mut want) = (output.stdout.split(|b| *b == 0), wanted.split(|b| *b == 0));
            for saved in &all {
                for _ in 0..saved.words.len() + 2 {
                    let (got, want) = (got.next().unwrap_or_default(), want.next().unwrap_or_default());
                    assert!(got == want, "{:?} is read as {}", saved, got.escape_ascii());
                }
            }
            assert_eq!(output.stdout, wanted);
        }
    }
}
