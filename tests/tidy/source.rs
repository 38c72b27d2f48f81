//! A source file as the rules see it: line by line, with the code and the comments apart.

/// One line. In `code`, comments are left out and what is inside string and character literals is blank; `comment`
/// holds what stands in comments, with their slashes.
#[derive(Debug, Default)]
pub struct Line {
    pub code: String,
    pub comment: String,
    /// Whether the line belongs to an item under `#[cfg(test)]`.
    pub test: bool,
}

#[derive(Debug)]
pub struct Source {
    /// The path from the repository's root.
    pub path: String,
    pub lines: Vec<Line>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let mut lines = split(text);
        mark_tests(path, &mut lines);
        Source { path: path.to_owned(), lines }
    }

    /// The layer that the file belongs to: the folder, or the file, directly below src/.
    pub fn layer(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?.trim_end_matches(".rs");
        (first != "lib").then_some(first)
    }

    /// The code from a place on, as characters with their places: what rules walk over to match braces.
    pub fn code_from(&self, line: usize, column: usize) -> impl Iterator<Item = (usize, usize, char)> {
        self.lines.iter().enumerate().skip(line).flat_map(move |(number, content)| {
            let skip = if number == line { column } else { 0 };
            let end = std::iter::once((number, content.code.len(), '\n'));
            content
                .code
                .char_indices()
                .filter(move |(at, _)| *at >= skip)
                .map(move |(at, c)| (number, at, c))
                .chain(end)
        })
    }

    /// The line of the `}` that closes the first `{` from a place on; or of a `;`, or of the closing brace of what is
    /// around, where that comes before any brace.
    pub fn end_of_item(&self, line: usize, column: usize) -> usize {
        let (mut braces, mut brackets) = (0, 0);
        for (number, _, character) in self.code_from(line, column) {
            match character {
                '{' => braces += 1,
                '}' => braces -= 1,
                // `[u8; 4]` in a signature ends nothing.
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                _ => (),
            }
            let closed = character == '}' && braces <= 0;
            if closed || character == ';' && braces == 0 && brackets == 0 {
                return number;
            }
        }
        self.lines.len() - 1
    }

    /// Every occurrence of `word` as a whole word in the code: line and column, from 0.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
        self.lines.iter().enumerate().flat_map(move |(number, line)| {
            find_words(&line.code, word).into_iter().map(move |column| (number, column))
        })
    }
}

/// The columns at which `word` stands in `code`. An end of `word` that could go on as a name must not go on.
pub fn find_words(code: &str, word: &str) -> Vec<usize> {
    let named = |c: char| c.is_alphanumeric() || c == '_';
    let starts_name = word.starts_with(named);
    let ends_name = word.ends_with(named);
    let whole = |&(at, _): &(usize, &str)| {
        let before = code[..at].chars().next_back().is_some_and(|c| named(c) || c == '\'');
        let after = code[at + word.len()..].chars().next().is_some_and(named);
        !(starts_name && before || ends_name && after)
    };
    code.match_indices(word).filter(whole).map(|(at, _)| at).collect()
}

/// What the lexer is inside of at some place.
enum Inside {
    Code,
    LineComment,
    /// How many are open: block comments nest.
    BlockComment(usize),
    String,
    /// With that many `#`.
    RawString(usize),
}

fn split(text: &str) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    let mut inside = Inside::Code;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let line = lines.last_mut().expect("there is a line from the start");
        let mut taken = character.len_utf8();
        match inside {
            _ if character == '\n' => {
                if matches!(inside, Inside::LineComment) {
                    inside = Inside::Code;
                }
                lines.push(Line::default());
            }
            Inside::Code => {
                let hashes = rest[taken..].bytes().take_while(|&b| b == b'#').count();
                if rest.starts_with("//") {
                    inside = Inside::LineComment;
                    line.comment.push_str("//");
                    taken = 2;
                } else if rest.starts_with("/*") {
                    inside = Inside::BlockComment(1);
                    taken = 2;
                } else if character == 'r' && rest[1 + hashes..].starts_with('"') {
                    inside = Inside::RawString(hashes);
                    taken = hashes + 2;
                    line.code.push('"');
                } else if character == '"' {
                    inside = Inside::String;
                    line.code.push('"');
                } else if let Some(length) = character_literal(rest) {
                    taken = length;
                    line.code.push_str("' '");
                } else {
                    line.code.push(character);
                }
            }
            Inside::LineComment => line.comment.push(character),
            Inside::BlockComment(depth) => {
                if rest.starts_with("*/") {
                    inside = if depth == 1 { Inside::Code } else { Inside::BlockComment(depth - 1) };
                    taken = 2;
                } else if rest.starts_with("/*") {
                    inside = Inside::BlockComment(depth + 1);
                    taken = 2;
                } else {
                    line.comment.push(character);
                }
            }
            Inside::String if rest.starts_with("\\\\") || rest.starts_with("\\\"") => taken = 2,
            Inside::RawString(hashes) if character != '"' || !closes(rest, hashes) => (),
            Inside::String if character != '"' => (),
            Inside::String | Inside::RawString(_) => {
                taken += if let Inside::RawString(hashes) = inside { hashes } else { 0 };
                line.code.push('"');
                inside = Inside::Code;
            }
        }
        rest = &rest[taken..];
    }
    if text.ends_with('\n') {
        lines.pop();
    }
    lines
}

fn closes(rest: &str, hashes: usize) -> bool {
    rest[1..].bytes().take(hashes).filter(|&b| b == b'#').count() == hashes
}

/// The length of the character literal that `rest` begins with; none for a lifetime.
fn character_literal(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    let end = if first == '\\' { 2 + body[2..].find('\'')? } else { first.len_utf8() };
    body[end..].starts_with('\'').then_some(end + 2)
}

/// Marks the lines of every item under `#[cfg(test)]`, and whole files named for tests.
fn mark_tests(path: &str, lines: &mut Vec<Line>) {
    let whole = path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/");
    let mut source = Source { path: path.to_owned(), lines: std::mem::take(lines) };
    for start in 0..source.lines.len() {
        let code = &source.lines[start].code;
        let attribute = code.find("#[cfg(").filter(|&at| !find_words(&code[at..], "test").is_empty());
        let Some(at) = attribute.filter(|&at| !code[at..].contains("not(test")) else { continue };
        // The item begins after the attribute; further attributes are brackets, which end nothing.
        let end = source.end_of_item(start, at);
        source.lines[start..=end].iter_mut().for_each(|line| line.test = true);
    }
    source.lines.iter_mut().for_each(|line| line.test |= whole);
    *lines = source.lines;
}
