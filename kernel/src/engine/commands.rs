//! The commands of a cell. evcxr looks for them only before the first line of Rust: lines such as `:dep`, which may
//! follow spaces, and lines for the shell, which begin with `!`.

use std::ops::Range;

/// A line that evcxr or the shell executes.
#[derive(Debug, PartialEq)]
pub struct Command<'a> {
    /// The first word, such as `:dep`, or `!` for the shell.
    pub name: &'a str,
    /// The line without its end.
    pub line: &'a str,
    /// The line's bytes in the cell.
    pub range: Range<usize>,
}

/// Returns a cell's commands.
pub fn commands(code: &str) -> impl Iterator<Item = Command<'_>> {
    lines_before_rust(code)
        .filter_map(|(start, line)| Some(Command { name: name(line)?, line, range: start..start + line.len() }))
}

/// Replaces a cell's commands by spaces.
pub fn without_commands(code: &str) -> String {
    let mut rust = code.to_string();
    for command in commands(code) {
        rust.replace_range(command.range.clone(), &" ".repeat(command.range.len()));
    }
    rust
}

fn lines_before_rust(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = code.lines().map(|line| (line.as_ptr() as usize - code.as_ptr() as usize, line));
    lines.take_while(|(_, line)| name(line).is_some() || line.starts_with("//") || line.trim().is_empty())
}

fn name(line: &str) -> Option<&str> {
    let words = line.trim_start_matches(' ');
    match line.strip_prefix('!') {
        Some(_) => Some("!"),
        None if words.starts_with(':') => words.split(' ').next(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_precede_the_rust() {
        for (code, names) in [
            ("", &[][..]),
            (":vars", &[":vars"]),
            ("  :quit now", &[":quit"]),
            ("// why\n\n  :dep a = \"1\"\r\n!ls :quit\nf();\n:vars", &[":dep", "!"]),
            (" !x", &[]),
            ("\t:quit", &[]),
            ("let a\n  : i32 = 1;", &[]),
            (" // :quit\n:quit", &[]),
        ] {
            assert_eq!(commands(code).map(|it| it.name).collect::<Vec<_>>(), names, "{code}");
        }
        assert_eq!(without_commands(":dep ä\n// a\nf();\n:vars"), "       \n// a\nf();\n:vars");
        assert!(commands("// a\n :dep b").all(|it| it.line == " :dep b" && it.range == (5..12)));
    }
}
