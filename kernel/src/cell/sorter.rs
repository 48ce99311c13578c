//! Separates the output of the process that runs cells into evcxr's markers, figures and text.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::event::{Bundle, Event, EventSender, Output, Question, Stream};
use super::meaning::{Meaning, before_marker, ending_marker, read};
use super::stderr::{HeldError, MAX_HELD};
use super::{COMPLETE, END_CONTENT, PANIC, QUESTION, REQUEST};

/// Holds back output that may be incomplete: a part of a line, a figure that may be the cell's result, a question that
/// may have more lines.
const HOLD: Duration = Duration::from_millis(30);
/// Asks for input if the cell wrote no question.
const PROMPT: &str = "Standard input (^D ends it): ";

/// Collects output and reports it as events.
pub struct Sorter {
    events: EventSender,
    /// The bytes after the last end of a line on standard output.
    line: Vec<u8>,
    /// Whether the beginning of this line was reported.
    line_begun: bool,
    /// Lines and parts of lines on standard output, to be reported as one event.
    text: String,
    /// MIME type and content of a block that `evcxr_display` has begun.
    block: Option<(String, String)>,
    figure: Option<Bundle>,
    /// Whether the figure can receive another MIME type.
    extensible: bool,
    /// The text of the panic or the `?` that ends the cell's code.
    failure: Option<String>,
    question: Option<Question>,
    /// How many questions were reported.
    questions: usize,
    error: HeldError,
    /// The time since which output is held back.
    since: Instant,
}

impl Sorter {
    pub fn new(events: EventSender) -> Self {
        Sorter {
            events,
            line: Vec::new(),
            line_begun: false,
            text: String::new(),
            block: None,
            figure: None,
            extensible: false,
            failure: None,
            question: None,
            questions: 0,
            error: HeldError::new(),
            since: Instant::now(),
        }
    }

    /// Receives bytes of standard error.
    pub fn stderr(&mut self, bytes: &[u8]) {
        let text = self.error.add(bytes);
        self.send_stderr(text);
    }

    /// Receives bytes of standard output.
    pub fn stdout(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.sort_line(&String::from_utf8_lossy(&line));
        }
        if !bytes.is_empty() && self.line.is_empty() {
            self.since = Instant::now();
        }
        self.line.extend_from_slice(bytes);
        if self.line.len() > MAX_HELD {
            self.release_line();
        }
        self.send_text();
    }

    fn sort_line(&mut self, line: &str) {
        let begun = std::mem::take(&mut self.line_begun);
        if let Some((mime, content)) = self.block.take() {
            return self.sort_block_line(mime, content, line);
        }
        let (before, meaning) = read(line);
        // The cell may have written a part of a line before a marker. It is a prompt before [`Meaning::Ask`].
        if !matches!(meaning, Meaning::Text | Meaning::Ask(_)) {
            self.add_text(before, "");
        }
        match meaning {
            Meaning::End(marker) => self.end_cell(marker),
            Meaning::Failure(text) => self.failure = Some(text),
            Meaning::Block(mime) => self.block = Some((mime, String::new())),
            Meaning::Output(output) => self.add_output(output),
            Meaning::Question(question) => self.begin_question(question),
            Meaning::Ask(answers) => self.ask(before, answers, begun),
            Meaning::ChangedType(marker) => {
                self.release();
                println!("{marker}");
            }
            Meaning::Text => match &mut self.question {
                Some(question) => {
                    question.prompt += "\n";
                    question.prompt += line;
                }
                None => self.add_text(line, "\n"),
            },
        }
    }

    fn sort_block_line(&mut self, mime: String, mut content: String, line: &str) {
        // The cell's code may fail inside a block, or write its end without a line break before.
        let end = ending_marker(line, &[END_CONTENT, COMPLETE, PANIC, QUESTION]);
        let more = end.map_or(line, |(_, before)| before);
        if end.is_none() || !more.is_empty() {
            if !content.is_empty() {
                content.push('\n');
            }
            content.push_str(more);
        }
        match end {
            None => self.block = Some((mime, content)),
            Some((marker, _)) => {
                self.add_content(mime, content);
                if marker != END_CONTENT {
                    self.end_cell(marker);
                }
            }
        }
    }

    /// Ends a cell, or its code, by a marker.
    fn end_cell(&mut self, marker: &str) {
        self.send_question();
        let failure = self.failure.take();
        if marker == COMPLETE {
            let text = self.error.take_all();
            self.send_stderr(text);
            if let Some(figure) = self.figure.take() {
                self.send(&Event::Result(figure));
            }
            self.error.forget();
            self.send(&Event::Done);
        } else {
            self.send_figure();
            // Without a text, evcxr has written the error on standard error.
            let written = if marker == QUESTION && failure.is_none() { self.error.take_all() } else { None };
            self.send_cells_error();
            let event = match marker {
                PANIC => Event::Panic { stderr: self.error.take_panic(), payload: failure },
                _ => Event::Question { stderr: failure.or(written).unwrap_or_default() },
            };
            self.send(&event);
        }
        println!("{marker}");
    }

    /// Begins a question of the crate `evcxr_input`. It may have more lines.
    fn begin_question(&mut self, question: Question) {
        self.send_question();
        self.question = Some(question);
        self.since = Instant::now();
    }

    /// Asks for the input that the cell waits for, after so many answers. `begun` tells whether the beginning of the
    /// prompt was reported as text.
    fn ask(&mut self, prompt: &str, answers: &str, begun: bool) {
        if self.question.is_none() && answers.parse() == Ok(self.questions) {
            let prompt = if prompt.is_empty() && !begun { PROMPT } else { prompt };
            self.question = Some(Question { prompt: prompt.into(), password: false });
        } else {
            // This question has been asked, and perhaps answered meanwhile.
            self.add_text(prompt, "");
        }
        self.send_question();
    }

    /// Reports a question, and makes evcxr wait for the answer.
    fn send_question(&mut self) {
        if let Some(mut question) = self.question.take() {
            self.send_cells_error();
            self.send_figure();
            question.prompt.truncate(question.prompt.trim_end_matches('\n').len());
            self.questions += 1;
            self.send(&Event::Ask(question));
            println!("{REQUEST}:");
        }
    }

    fn add_output(&mut self, output: Output) {
        self.send_cells_error();
        self.send_figure();
        match output {
            Output::Show(bundle) => {
                self.figure = Some(bundle);
                self.extensible = false;
                self.since = Instant::now();
            }
            output => self.send(&Event::Output(output)),
        }
    }

    /// Adds the content of a block to the figure, or begins another figure if this one has the MIME type already.
    fn add_content(&mut self, mime: String, content: String) {
        self.send_cells_error();
        if self.figure.as_ref().is_some_and(|figure| !self.extensible || figure.data.contains_key(&mime)) {
            self.send_figure();
        }
        let value = match mime.contains("json") {
            true => serde_json::from_str(&content).unwrap_or(Value::from(content)),
            false => Value::from(content),
        };
        self.figure.get_or_insert_default().data.insert(mime, value);
        self.extensible = true;
        self.since = Instant::now();
    }

    fn add_text(&mut self, line: &str, end: &str) {
        if line.is_empty() && end.is_empty() {
            return;
        }
        self.send_cells_error();
        self.send_figure();
        self.text += line;
        self.text += end;
    }

    /// Returns the last text on standard error.
    pub fn last_stderr(&self) -> String {
        self.error.last()
    }

    /// Returns how much longer output is held back. `None` if there is none.
    pub fn held_for(&self) -> Option<Duration> {
        [self.error.held_for(), self.output_held_for()].into_iter().flatten().min()
    }

    fn output_held_for(&self) -> Option<Duration> {
        let part = !self.line.is_empty() && self.block.is_none();
        let held = part || self.figure.is_some() || self.question.is_some();
        held.then(|| HOLD.saturating_sub(self.since.elapsed()))
    }

    /// Reports the output that was held back for long enough.
    pub fn release_due(&mut self) {
        if self.error.held_for() == Some(Duration::ZERO) {
            self.send_error();
        }
        if self.output_held_for() == Some(Duration::ZERO) {
            self.release_output();
        }
    }

    /// Reports the output that is held back.
    pub fn release(&mut self) {
        self.send_error();
        self.release_output();
    }

    fn release_output(&mut self) {
        self.send_figure();
        self.release_line();
        self.send_question();
        self.send_text();
    }

    /// Reports the rest when the process has ended.
    pub fn end(&mut self) {
        let text = self.error.take_all();
        self.send_stderr(text);
        self.release_output();
    }

    /// Adds the beginning of an unfinished line to the text, up to a part that may become a marker.
    fn release_line(&mut self) {
        if self.block.is_some() || self.line.is_empty() {
            return;
        }
        self.since = Instant::now();
        let whole = before_marker(&self.line);
        if whole == 0 {
            return;
        }
        let rest = self.line.split_off(whole);
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line = rest;
        self.line_begun = true;
        self.add_text(&text, "");
    }

    fn send_error(&mut self) {
        let text = self.error.take();
        self.send_stderr(text);
    }

    /// Reports standard error, except the message of a panic.
    fn send_cells_error(&mut self) {
        let text = self.error.take_before_panic();
        self.send_stderr(text);
    }

    fn send_stderr(&mut self, text: Option<String>) {
        if let Some(text) = text {
            self.send(&Event::Text { stream: Stream::Stderr, text });
        }
    }

    fn send_figure(&mut self) {
        if let Some(figure) = self.figure.take() {
            self.send(&Event::Output(Output::Show(figure)));
        }
    }

    /// Reports an event after the text that precedes it.
    fn send(&mut self, event: &Event) {
        self.send_text();
        self.events.send(event);
    }

    fn send_text(&mut self) {
        if !self.text.is_empty() {
            self.events.send(&Event::Text { stream: Stream::Stdout, text: std::mem::take(&mut self.text) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use serde_json::json;

    use super::*;

    const DONE: &[u8] = b"EVCXR_EXECUTION_COMPLETE\n";

    /// Returns the events that a sorter reports for the output that `feed` gives it.
    fn events_of(feed: impl FnOnce(&mut Sorter)) -> Vec<Value> {
        let (reader, writer) = std::io::pipe().unwrap();
        // A figure is larger than the pipe's buffer.
        let read = std::thread::spawn(move || std::io::read_to_string(reader).unwrap());
        feed(&mut Sorter::new(EventSender::new(File::from(OwnedFd::from(writer)))));
        let text = read.join().unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn text(stream: &str, text: &str) -> Value {
        json!({ "text": { "stream": stream, "text": text } })
    }

    #[test]
    fn a_part_of_a_line_before_a_mark_is_text() {
        let events = events_of(|sorter| sorter.stdout(b"one\ntwo EVCXR_EXECUTION_COMPLETE\n"));
        assert_eq!(events, [text("stdout", "one\ntwo "), json!("done")]);
    }

    #[test]
    fn a_character_in_two_reads_is_one() {
        let events = events_of(|sorter| {
            sorter.stdout(&"aä".as_bytes()[..2]);
            sorter.release();
            sorter.stdout(&"aä\n".as_bytes()[2..]);
        });
        assert_eq!(events, [text("stdout", "a"), text("stdout", "ä\n")]);
    }

    #[test]
    fn a_second_block_of_a_type_is_another_figure_and_the_last_is_the_result() {
        let block = |mime: &str, n: i32| format!("EVCXR_BEGIN_CONTENT {mime}\n{n}\nEVCXR_END_CONTENT\n");
        let lines = [block("text/html", 1), block("text/plain", 1), block("text/html", 2)].concat();
        let events = events_of(|sorter| sorter.stdout(&[lines.as_bytes(), DONE].concat()));
        assert_eq!(events[0]["output"]["show"]["data"], json!({ "text/html": "1", "text/plain": "1" }));
        assert_eq!(events[1]["result"]["data"], json!({ "text/html": "2" }));
        assert_eq!(events[2], "done");
    }

    #[test]
    fn a_block_that_is_not_ended_properly_ends_with_its_cell() {
        let block: &[u8] = b"EVCXR_BEGIN_CONTENT text/html\n<b>x</b>";
        let shown = json!({ "text/html": "<b>x</b>" });
        for end in ["EVCXR_END_CONTENT\n", ""] {
            let events = events_of(|sorter| [block, end.as_bytes(), DONE].iter().for_each(|part| sorter.stdout(part)));
            assert_eq!(events[0]["result"]["data"], shown, "{end}");
            assert_eq!(events[1], "done");
        }
        let events = events_of(|sorter| {
            sorter.stdout(block);
            sorter.stdout(b"\nEVCXR_ERROR_OCCURRED\n");
        });
        assert_eq!(events[0]["output"]["show"]["data"], shown);
        assert!(events[1].get("question").is_some());
    }

    #[test]
    fn a_large_figure_after_a_part_of_a_line_is_a_figure() {
        let picture = "x".repeat(3 * MAX_HELD);
        let output = json!({ "show": { "data": { "image/png": picture } } });
        let line = format!("so: VITLAB_OUTPUT {output}\n");
        let events = events_of(|sorter| {
            for part in line.as_bytes().chunks(MAX_HELD / 2) {
                sorter.stdout(part);
                sorter.release();
            }
            sorter.stdout(DONE);
        });
        assert_eq!(events[0], text("stdout", "so: "));
        assert_eq!(events[1]["output"]["show"]["data"]["image/png"], picture);
        assert_eq!(events[2], "done");
    }

    #[test]
    fn a_panic_keeps_its_beginning_however_long_it_is_and_whatever_it_says() {
        let beginning = "thread 'main' (7) panicked at a.rs:1:1:\na worker thread 'a' failed: ";
        let events = events_of(|sorter| {
            sorter.stderr(b"before\n");
            sorter.stderr(format!("\n{beginning}").as_bytes());
            for _ in 0..5 {
                sorter.stderr("1.0, ".repeat(MAX_HELD / 10).as_bytes());
            }
            sorter.stdout(b"EVCXR_PANIC_NOTIFICATION\n");
        });
        assert_eq!(events[0], text("stderr", "before\n"));
        let message = events[1]["panic"]["stderr"].as_str().unwrap();
        assert!(message.starts_with(beginning) && message.len() <= MAX_HELD);
    }

    #[test]
    fn of_a_panic_only_its_own_message_is_kept_from_standard_error() {
        let events = events_of(|sorter| {
            sorter.stderr(b"a remark\n\nthread 'main' panicked at a.rs:1:1:\nno\n");
            sorter.stdout(b"EVCXR_PANIC_NOTIFICATION\nEVCXR_EXECUTION_COMPLETE\n");
        });
        let message = "thread 'main' panicked at a.rs:1:1:\nno\n";
        let panic = json!({ "panic": { "stderr": message, "payload": null } });
        assert_eq!(events, [text("stderr", "a remark\n"), panic, json!("done")]);
    }

    #[test]
    fn a_failure_is_no_text_whatever_the_cell_wrote_before() {
        let panic = "\nthread 'main' panicked at a.rs:1:1:\nno\n";
        let events = events_of(|sorter| {
            sorter.stderr(format!("remark{panic}").as_bytes());
            sorter.stdout(b"line\n60 %VITLAB_PANIC no\nEVCXR_PANIC_NOTIFICATION\n");
        });
        let expected = json!({ "panic": { "stderr": panic.trim_start(), "payload": "no" } });
        assert_eq!(events, [text("stderr", "remark"), text("stdout", "line\n60 %"), expected]);
        let events = events_of(|sorter| {
            sorter.stderr(b"remark\n");
            sorter.stdout(b"60 %VITLAB_QUESTION two\0lines\nEVCXR_ERROR_OCCURRED\n");
        });
        let expected = json!({ "question": { "stderr": "two\nlines" } });
        assert_eq!(events, [text("stderr", "remark\n"), text("stdout", "60 %"), expected]);
        // A panic without a message isn't described by the text before it.
        let events = events_of(|sorter| {
            sorter.stderr(b"remark\n");
            sorter.release();
            sorter.stdout(b"EVCXR_PANIC_NOTIFICATION\n");
        });
        assert_eq!(events[1], json!({ "panic": { "stderr": "", "payload": null } }));
    }

    #[test]
    fn a_character_byte_by_byte_is_one_on_both_streams() {
        for stream in ["stdout", "stderr"] {
            let events = events_of(|sorter| {
                for byte in "é🦀".bytes() {
                    if stream == "stdout" {
                        sorter.stdout(&[byte])
                    } else {
                        sorter.stderr(&[byte])
                    }
                    sorter.release();
                }
            });
            assert_eq!(events, [text(stream, "é"), text(stream, "🦀")]);
        }
    }

    #[test]
    fn a_question_is_asked_once_with_its_whole_prompt() {
        let ask = |prompt: &str, password| json!({ "ask": { "prompt": prompt, "password": password } });
        let events = events_of(|sorter| {
            sorter.stdout(b"so: EVCXR_INPUT_REQUEST:a:b\nc: \n");
            // The cell's process notices that the cell waits.
            sorter.stdout(b"VITLAB_ASK 0\nVITLAB_ASK 0\n");
            sorter.stdout(b"Name: VITLAB_ASK 1\nVITLAB_ASK 1\n");
            sorter.stdout(b"EVCXR_INPUT_REQUEST_PASSWORD:p\n");
            sorter.release();
            sorter.stdout(b"VITLAB_ASK 3\n");
            sorter.stdout(b"begun");
            sorter.release();
            sorter.stdout(b"VITLAB_ASK 4\n");
        });
        assert_eq!(events[..4], [text("stdout", "so: "), ask("a:b\nc: ", false), ask("Name: ", false), ask("p", true)]);
        assert_eq!(events[4..], [ask(PROMPT, false), text("stdout", "begun"), ask("", false)]);
    }
}
