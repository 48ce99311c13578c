//! Meaning of a line on the standard output of the process that runs cells: text of the cell, or a marker of evcxr or
//! vitlab, with text of the cell before it.

use super::event::{Output, Question};
use super::{
    ASK, BEGIN_CONTENT, CHANGED_TYPE, COMPLETE, EVCXR, OUTPUT, PANIC, PANIC_TEXT, PASSWORD, QUESTION, QUESTION_TEXT,
    REQUEST, VITLAB,
};

/// Meaning of a line outside of a block.
#[derive(Debug)]
pub enum Meaning<'a> {
    /// The end of a cell or of its code, by this marker.
    End(&'static str),
    /// The text of the panic or the `?` that ends the cell's code.
    Failure(String),
    /// The beginning of a block of this MIME type.
    Block(String),
    Output(Output),
    /// A question of the crate `evcxr_input`. It may have more lines.
    Question(Question),
    /// The wait for input after so many answers. The text before is the prompt.
    Ask(&'a str),
    /// A variable's change of type: the marker as evcxr wrote it.
    ChangedType(&'a str),
    Text,
}

/// Returns the text before a line's marker, and the meaning of the line.
pub fn read(line: &str) -> (&str, Meaning<'_>) {
    if let Some((marker, before)) = ending_marker(line, &[COMPLETE, PANIC, QUESTION]) {
        return (before, Meaning::End(marker));
    }
    if let Some((before, text)) = line.split_once(PANIC_TEXT).or_else(|| line.split_once(QUESTION_TEXT)) {
        return (before, Meaning::Failure(text.replace('\0', "\n")));
    }
    if let Some((before, mime)) = line.split_once(BEGIN_CONTENT) {
        return (before, Meaning::Block(mime.trim().to_string()));
    }
    if let Some((before, output)) = line.split_once(OUTPUT) {
        return match serde_json::from_str(output) {
            Ok(output) => (before, Meaning::Output(output)),
            Err(_) => (line, Meaning::Text),
        };
    }
    if let Some((before, request)) = line.split_once(REQUEST) {
        let (prompt, password) = request.strip_prefix(PASSWORD).map_or((request, false), |prompt| (prompt, true));
        let prompt = prompt.strip_prefix(':').unwrap_or(prompt).to_string();
        return (before, Meaning::Question(Question { prompt, password }));
    }
    if let Some((prompt, answers)) = line.rsplit_once(ASK) {
        return (prompt, Meaning::Ask(answers));
    }
    match line.find(CHANGED_TYPE) {
        Some(start) => (&line[..start], Meaning::ChangedType(&line[start..])),
        None => (line, Meaning::Text),
    }
}

/// Finds the marker that ends a line, and the text before it.
pub fn ending_marker<'a>(line: &'a str, markers: &[&'static str]) -> Option<(&'static str, &'a str)> {
    markers.iter().find_map(|marker| Some((*marker, line.strip_suffix(marker)?)))
}

/// Counts the bytes before a character whose end is missing. Bytes that aren't UTF-8 count as whole.
pub fn whole_characters(bytes: &[u8]) -> usize {
    let is_first = |byte: &u8| *byte & 0xC0 != 0x80;
    let Some(last) = bytes.iter().rposition(is_first) else { return bytes.len() };
    match std::str::from_utf8(&bytes[last..]) {
        Err(error) if error.error_len().is_none() => last,
        _ => bytes.len(),
    }
}

/// Counts the bytes at the beginning of an unfinished line that are text, whatever follows.
pub fn before_marker(line: &[u8]) -> usize {
    let may_be_marker = |start: &usize| {
        let rest = &line[*start..];
        [EVCXR, VITLAB].iter().any(|it| rest.starts_with(it.as_bytes()) || it.as_bytes().starts_with(rest))
    };
    let before = (0..line.len()).find(may_be_marker).unwrap_or(line.len());
    whole_characters(&line[..before])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_without_its_end_is_left() {
        for (bytes, whole) in [(&b"a\xc3"[..], 1), (b"\xff\xc3", 1), (b"\xf0\x9f\xa6", 0), (b"a\xff", 2), (b"\x80", 1)]
        {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_marker_is_left() {
        for (line, count) in [("text", 4), ("text EV", 5), ("VITLAB_", 0), ("EVery", 5), ("a EVCXR_BEGIN", 2)] {
            assert_eq!(before_marker(line.as_bytes()), count, "{line}");
        }
    }

    #[test]
    fn a_damaged_output_is_text() {
        let (text, meaning) = read("so: VITLAB_OUTPUT {");
        assert!(text == "so: VITLAB_OUTPUT {" && matches!(meaning, Meaning::Text), "{meaning:?}");
    }
}
