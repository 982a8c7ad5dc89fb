//! The simple commands of a shell script, as words. Expansions are placeholders: `${__aba_path%/*}` is `{path}`.

/// The separators that end a command.
const SEPARATORS: &[char] = &['\n', ';', '&', '|', '(', ')', '<', '>', '`'];

/// Reads the commands of a script. Each line, each side of a pipe and each body in braces is a command of its own.
pub(crate) fn read_commands(script: &str) -> Vec<Vec<String>> {
    let mut reader = ScriptReader { rest: script };
    let mut commands = vec![Vec::new()];
    while let Some(c) = reader.peek() {
        if c == '\\' && reader.rest[1..].starts_with('\n') {
            reader.skip(2);
        } else if c == '#' {
            reader.take_until('\n');
        } else if c.is_whitespace() && c != '\n' {
            reader.skip(1);
        } else if SEPARATORS.contains(&c) {
            reader.skip(1);
            commands.push(Vec::new());
        } else {
            let word = reader.read_word();
            commands.last_mut().expect("a command").push(word);
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}

struct ScriptReader<'a> {
    rest: &'a str,
}

impl<'a> ScriptReader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Skips bytes, which are ASCII characters.
    fn skip(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

    /// Takes the text up to the character, which is skipped only if it is no line end.
    fn take_until(&mut self, end: char) -> &'a str {
        let at = self.rest.find(end).unwrap_or(self.rest.len());
        let text = &self.rest[..at];
        self.rest = &self.rest[at..];
        if end != '\n' {
            self.rest = self.rest.strip_prefix(end).unwrap_or_default();
        }
        text
    }

    fn read_word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\'' => {
                    self.skip(1);
                    word.push_str(self.take_until('\''));
                }
                '"' => {
                    self.skip(1);
                    self.read_quotes(&mut word, '"');
                }
                '$' => self.read_expansion(&mut word),
                '\\' if self.rest.len() > 1 => {
                    self.skip(1);
                    let escaped = self.peek().expect("a character");
                    if escaped == '\n' {
                        break;
                    }
                    word.push(escaped);
                    self.rest = &self.rest[escaped.len_utf8()..];
                }
                c if c.is_whitespace() || SEPARATORS.contains(&c) => break,
                c => {
                    word.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
            }
        }
        word
    }

    /// Reads text in which expansions take place, up to the character `end`.
    fn read_quotes(&mut self, text: &mut String, end: char) {
        while let Some(c) = self.peek() {
            match c {
                '$' => self.read_expansion(text),
                '\\' if self.rest.len() > 1 => {
                    self.skip(1);
                    let escaped = self.peek().expect("a character");
                    self.rest = &self.rest[escaped.len_utf8()..];
                    if !matches!(escaped, '$' | '`' | '"' | '\\' | '\n') {
                        text.push('\\');
                    }
                    if escaped != '\n' {
                        text.push(escaped);
                    }
                }
                '"' if end == '}' => {
                    self.skip(1);
                    self.read_quotes(text, '"');
                }
                c => {
                    self.rest = &self.rest[c.len_utf8()..];
                    if c == end {
                        return;
                    }
                    text.push(c);
                }
            }
        }
    }

    /// Reads an expansion, at its `$`, and adds a placeholder. The default of `${name:-default}` is in it if it is text.
    fn read_expansion(&mut self, text: &mut String) {
        self.skip(1);
        match self.peek() {
            Some('\'') => {
                self.skip(1);
                self.take_until('\'');
                text.push_str("{}");
            }
            Some('(') => {
                self.skip_parentheses();
                text.push_str("{}");
            }
            Some('{') => {
                self.skip(1);
                let name = self.read_name();
                let mut value = String::new();
                self.read_quotes(&mut value, '}');
                let value = value.strip_prefix(':').unwrap_or(&value);
                match (value.strip_prefix('-'), value.strip_prefix('+')) {
                    (Some(value), _) if value.contains(' ') => *text += &["{", &name, "|", value, "}"].concat(),
                    (_, Some(value)) => text.push_str(value),
                    _ => *text += &["{", &name, "}"].concat(),
                }
            }
            Some(_) => {
                let name = self.read_name();
                *text += &if name.is_empty() { "$".into() } else { ["{", &name, "}"].concat() };
            }
            None => text.push('$'),
        }
    }

    /// Reads the name of a variable, without the prefix that the variables of this library have.
    fn read_name(&mut self) -> String {
        let rest = self.rest.trim_start_matches(['#', '!']);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        self.rest = if end == 0 { self.rest } else { &rest[end..] };
        let name = if end == 0 && self.rest.starts_with(['@', '*', '?', '#', '$', '!', '-']) {
            let special = &self.rest[..1];
            self.skip(1);
            special
        } else {
            name
        };
        ["__aba_", "__run_once_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
    }

    fn skip_parentheses(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.peek() {
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                '\'' => drop(self.take_until('\'')),
                _ => (),
            }
            if depth == 0 {
                return;
            }
        }
    }
}

#[test]
fn commands_are_read_as_words() {
    let read = |script: &str| {
        let commands = read_commands(script).into_iter();
        commands.map(|command| command.join("/")).collect::<Vec<_>>()
    };
    assert_eq!(read("a 'b c' \"d $1 \\`e\\`\" # f\n[[ g ]] || h \\\n  i"), ["a/b c/d {1} `e`", "[[/g/]]", "h/i"]);
    assert_eq!(read("f \"${__aba_path%/*} is ${1:-a lock}\""), ["f/{path} is {1|a lock}"]);
    assert_eq!(read("f \"$(g 'h)' \"i\")x\" ${2+\"hint: $2\"} ${3+\"$3\"} $?"), ["f/{}x/hint: {2}/{3}/{?}"]);
}
