//! Tells apart what comes from the process that runs the cells: marks for evcxr, things to show, and text.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::cells;
use crate::event::{Bundle, Event, Output, Stream};
use crate::watch::Teller;

const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
const QUESTION: &str = "EVCXR_ERROR_OCCURRED";
const BEGIN: &str = "EVCXR_BEGIN_CONTENT ";
const END: &str = "EVCXR_END_CONTENT";
/// Lines that only evcxr understands: a variable of another type, a request for input.
const PASSED: [&str; 2] = ["EVCXR_VARIABLE_CHANGED_TYPE:", "EVCXR_INPUT_REQUEST"];
const OUTPUT: &str = "VITLAB_OUTPUT ";

/// What may belong to something that comes next is held back for so long: part of a line, a figure that may turn out to be
/// the cell's result, a line on standard error that may turn out to be its error.
const HELD: Duration = Duration::from_millis(30);
/// After a panic values are dropped first.
const HELD_PANIC: Duration = Duration::from_secs(1);
/// So many bytes are told even when they are a part of a line.
const MOST: usize = 1 << 16;

/// What came from the cells and isn't told yet.
pub struct Sorter {
    teller: Teller,
    /// What came after the last end of a line.
    line: Vec<u8>,
    /// Whole lines that belong together.
    text: String,
    /// The MIME type and what came of a block that evcxr_display began.
    block: Option<(String, String)>,
    figure: Option<Bundle>,
    /// Whether another MIME type may still be added.
    open: bool,
    error: Vec<u8>,
    /// The last of what was written on standard error and isn't held any more.
    last_error: String,
    since: Instant,
}

impl Sorter {
    pub fn new(teller: Teller) -> Self {
        Sorter {
            teller,
            line: Vec::new(),
            text: String::new(),
            block: None,
            figure: None,
            open: false,
            error: Vec::new(),
            last_error: String::new(),
            since: Instant::now(),
        }
    }

    /// Takes what was written on standard error.
    pub fn error(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && self.error.is_empty() {
            self.tell_text();
            self.since = Instant::now();
        }
        self.error.extend_from_slice(bytes);
        if self.error.len() > MOST {
            // The end of a panic's message can be missed, its beginning can't.
            match panicked(&self.error) {
                Some(0) => self.error.truncate(MOST),
                Some(at) => {
                    let message = self.error.split_off(at);
                    self.tell_error();
                    self.error = message;
                    self.error.truncate(MOST);
                }
                None => self.tell_error(),
            }
        }
    }

    /// Takes what was written on standard output.
    pub fn output(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take_line(&String::from_utf8_lossy(&line));
        }
        if !bytes.is_empty() && self.line.is_empty() {
            self.since = Instant::now();
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() > MOST {
            self.tell_line();
        }
        self.tell_text();
    }

    fn take_line(&mut self, line: &str) {
        if let Some((kind, content)) = &mut self.block {
            // Code can fail before it has ended its block, and write the end after the content without a new line.
            let ends = [END, cells::COMPLETE, PANIC, QUESTION];
            let end = ends.into_iter().find_map(|mark| Some((mark, line.strip_suffix(mark)?)));
            let more = end.map_or(line, |(_, before)| before);
            if end.is_none() || !more.is_empty() {
                if !content.is_empty() {
                    content.push('\n');
                }
                content.push_str(more);
            }
            let Some((mark, _)) = end else { return };
            let (kind, content) = (std::mem::take(kind), std::mem::take(content));
            self.block = None;
            self.add(kind, content);
            if mark != END {
                self.take_mark(mark);
            }
            return;
        }
        // A part of a line can stand before a mark.
        for mark in [cells::COMPLETE, PANIC, QUESTION] {
            if let Some(before) = line.strip_suffix(mark) {
                self.tell_before(before);
                return self.take_mark(mark);
            }
        }
        if let Some((before, kind)) = line.split_once(BEGIN) {
            self.tell_before(before);
            self.block = Some((kind.trim().to_string(), String::new()));
        } else if let Some((before, output)) = line.split_once(OUTPUT) {
            self.tell_before(before);
            match serde_json::from_str(output) {
                Ok(output) => self.take_output(output),
                Err(_) => self.add_text(line, "\n"),
            }
        } else if let Some(at) = PASSED.iter().find_map(|mark| line.find(mark)) {
            self.tell_before(&line[..at]);
            self.release();
            println!("{}", &line[at..]);
        } else {
            self.add_text(line, "\n");
        }
    }

    fn take_mark(&mut self, mark: &str) {
        self.tell_text();
        match mark {
            PANIC | QUESTION => {
                self.tell_figure();
                let mut said = self.said();
                let held = !std::mem::take(&mut self.error).is_empty();
                if mark == PANIC {
                    // What the cell wrote before the panic's own message stays what it is.
                    let message = said.split_off(panicked(said.as_bytes()).unwrap_or(0));
                    if held && !said.trim().is_empty() {
                        self.tell_stream(Stream::Stderr, said);
                    }
                    self.teller.tell(&Event::Panic { said: message });
                } else {
                    self.teller.tell(&Event::Question { said });
                }
            }
            _ => {
                self.tell_error();
                if let Some(figure) = self.figure.take() {
                    self.teller.tell(&Event::Result(figure));
                }
                self.last_error.clear();
                self.teller.tell(&Event::Done);
            }
        }
        println!("{mark}");
    }

    fn take_output(&mut self, output: Output) {
        self.tell_error();
        self.tell_text();
        self.tell_figure();
        match output {
            Output::Show(bundle) => {
                self.figure = Some(bundle);
                self.open = false;
                self.since = Instant::now();
            }
            output => self.teller.tell(&Event::Output(output)),
        }
    }

    /// Adds what evcxr_display wrote to the figure, or begins another when it has this MIME type already.
    fn add(&mut self, kind: String, content: String) {
        self.tell_error();
        self.tell_text();
        let fits = |figure: &Bundle| self.open && !figure.data.contains_key(&kind);
        if !self.figure.as_ref().is_some_and(fits) {
            self.tell_figure();
            self.figure = Some(Bundle::default());
            self.open = true;
        }
        let value = match kind.contains("json") {
            true => serde_json::from_str(&content).unwrap_or(Value::from(content)),
            false => Value::from(content),
        };
        let data: &mut Map<_, _> = &mut self.figure.as_mut().expect("put there").data;
        data.insert(kind, value);
        self.since = Instant::now();
    }

    /// The part of a line that stood before a mark.
    fn tell_before(&mut self, before: &str) {
        if !before.is_empty() {
            self.add_text(before, "");
        }
    }

    fn add_text(&mut self, line: &str, end: &str) {
        self.tell_error();
        self.tell_figure();
        self.text += line;
        self.text += end;
    }

    /// What was written on standard error last.
    pub fn said(&self) -> String {
        match self.error.is_empty() {
            true => self.last_error.clone(),
            false => String::from_utf8_lossy(&self.error).into_owned(),
        }
    }

    /// How long until something has been held back long enough; none when nothing is.
    pub fn held_for(&self) -> Option<Duration> {
        let held = if !self.error.is_empty() {
            match panicked(&self.error) {
                Some(_) => HELD_PANIC,
                None => HELD,
            }
        } else if self.figure.is_some() || (!self.line.is_empty() && self.block.is_none()) {
            HELD
        } else {
            return None;
        };
        Some(held.saturating_sub(self.since.elapsed()))
    }

    pub fn release(&mut self) {
        self.tell_error();
        self.tell_figure();
        self.tell_line();
        self.tell_text();
    }

    pub fn end(&mut self) {
        if self.last_error.is_empty() {
            self.last_error = self.said();
        }
        self.release();
    }

    fn tell_error(&mut self) {
        if self.error.is_empty() {
            return;
        }
        self.tell_text();
        // The end of a longer character may still be on its way.
        let whole = whole_characters(&self.error);
        let rest = self.error.split_off(whole);
        let text = String::from_utf8_lossy(&self.error).into_owned();
        self.error = rest;
        self.last_error = text.clone();
        self.tell_stream(Stream::Stderr, text);
    }

    fn tell_figure(&mut self) {
        if let Some(figure) = self.figure.take() {
            self.tell_text();
            self.teller.tell(&Event::Output(Output::Show(figure)));
        }
    }

    /// The beginning of a line whose end isn't there yet, unless it can be one of the marks.
    fn tell_line(&mut self) {
        if self.block.is_some() || self.line.is_empty() {
            return;
        }
        self.since = Instant::now();
        let marks = [b"EVCXR_".as_slice(), OUTPUT.as_bytes()];
        let begins = |at: &usize| {
            let rest = &self.line[*at..];
            marks.iter().any(|mark| rest.starts_with(mark) || mark.starts_with(rest))
        };
        let before = (0..self.line.len()).find(begins).unwrap_or(self.line.len());
        let whole = whole_characters(&self.line[..before]);
        if whole == 0 {
            return;
        }
        let rest = self.line.split_off(whole);
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line = rest;
        self.add_text(&text, "");
    }

    fn tell_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.tell_stream(Stream::Stdout, text);
    }

    fn tell_stream(&self, stream: Stream, text: String) {
        if !text.is_empty() {
            self.teller.tell(&Event::Text { stream, text });
        }
    }
}

/// Where the last panic's message begins: "thread 'main' panicked at src/lib.rs:1:1:" at the beginning of a line.
fn panicked(error: &[u8]) -> Option<usize> {
    let mut found = None;
    let mut at = 0;
    for line in error.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"thread '") && line.windows(12).any(|part| part == b"panicked at ") {
            found = Some(at);
        }
        at += line.len();
    }
    found
}

/// How many bytes hold whole characters: what isn't text at all counts as whole.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    /// What is told of what `feed` gives.
    fn told(feed: impl FnOnce(&mut Sorter)) -> Vec<Value> {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // A pipe holds less than a figure.
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let events = File::from(OwnedFd::from(writer));
        feed(&mut Sorter::new(Teller::new(events)));
        let text = read.join().unwrap();
        let lines = text.lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn text(stream: &str, text: &str) -> Value {
        json!({ "text": { "stream": stream, "text": text } })
    }

    #[test]
    fn a_part_of_a_line_before_a_mark_is_text() {
        let events = told(|sorter| sorter.output(b"one\ntwo EVCXR_EXECUTION_COMPLETE\n"));
        assert_eq!(events, [text("stdout", "one\ntwo "), json!("done")]);
    }

    #[test]
    fn a_character_in_two_reads_is_one() {
        let events = told(|sorter| {
            sorter.output(&"aä".as_bytes()[..2]);
            sorter.release();
            sorter.output(&"aä\n".as_bytes()[2..]);
        });
        assert_eq!(events, [text("stdout", "a"), text("stdout", "ä\n")]);
    }

    #[test]
    fn a_second_block_of_a_type_is_another_figure_and_the_last_is_the_result() {
        let block = |mime: &str, n: i32| format!("EVCXR_BEGIN_CONTENT {mime}\n{n}\nEVCXR_END_CONTENT\n");
        let lines = [block("text/html", 1), block("text/plain", 1), block("text/html", 2)];
        let events = told(|sorter| {
            sorter.output(lines.concat().as_bytes());
            sorter.output(b"EVCXR_EXECUTION_COMPLETE\n");
        });
        let first = json!({ "text/html": "1", "text/plain": "1" });
        assert_eq!(events[0]["output"]["show"]["data"], first);
        assert_eq!(events[1]["result"]["data"], json!({ "text/html": "2" }));
        assert_eq!(events[2], "done");
    }

    #[test]
    fn a_block_that_is_not_ended_properly_ends_with_its_cell() {
        let block = b"EVCXR_BEGIN_CONTENT text/html\n<b>x</b>";
        let shown = json!({ "text/html": "<b>x</b>" });
        for end in ["EVCXR_END_CONTENT\n", ""] {
            let events = told(|sorter| {
                sorter.output(block);
                sorter.output(end.as_bytes());
                sorter.output(b"EVCXR_EXECUTION_COMPLETE\n");
            });
            assert_eq!(events[0]["result"]["data"], shown, "{end}");
            assert_eq!(events[1], "done");
        }
        let events = told(|sorter| {
            sorter.output(block);
            sorter.output(b"\nEVCXR_ERROR_OCCURRED\n");
        });
        assert_eq!(events[0]["output"]["show"]["data"], shown);
        assert!(events[1].get("question").is_some());
    }

    #[test]
    fn a_large_figure_after_a_part_of_a_line_is_a_figure() {
        let picture = "x".repeat(3 * MOST);
        let output = json!({ "show": { "data": { "image/png": picture } } });
        let line = format!("so: VITLAB_OUTPUT {output}\n");
        let events = told(|sorter| {
            for part in line.as_bytes().chunks(MOST / 2) {
                sorter.output(part);
                sorter.release();
            }
            sorter.output(b"EVCXR_EXECUTION_COMPLETE\n");
        });
        assert_eq!(events[0], text("stdout", "so: "));
        assert_eq!(events[1]["output"]["show"]["data"]["image/png"], picture);
        assert_eq!(events[2], "done");
    }

    #[test]
    fn a_panic_keeps_its_beginning_however_long_it_is_and_whatever_it_says() {
        let said = "thread 'main' (7) panicked at a.rs:1:1:\na worker thread 'a' failed: ";
        let events = told(|sorter| {
            sorter.error(b"before\n");
            sorter.error(said.as_bytes());
            for _ in 0..5 {
                sorter.error("1.0, ".repeat(MOST / 10).as_bytes());
            }
            sorter.output(b"EVCXR_PANIC_NOTIFICATION\n");
        });
        assert_eq!(events[0], text("stderr", "before\n"));
        let told = events[1]["panic"]["said"].as_str().unwrap();
        assert!(told.starts_with(said) && told.len() <= MOST);
    }

    #[test]
    fn of_a_panic_only_its_own_message_is_kept_from_standard_error() {
        let events = told(|sorter| {
            sorter.error(b"a remark\n\nthread 'main' panicked at a.rs:1:1:\nno\n");
            sorter.output(b"EVCXR_PANIC_NOTIFICATION\nEVCXR_EXECUTION_COMPLETE\n");
        });
        let said = "thread 'main' panicked at a.rs:1:1:\nno\n";
        assert_eq!(events, [text("stderr", "a remark\n\n"), json!({ "panic": { "said": said } }), json!("done")]);
    }
}
