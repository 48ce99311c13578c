//! Text of standard error that is held back, because it may be the message of a panic, which the cell's error shows.

use std::time::{Duration, Instant};

use super::meaning::whole_characters;

/// Text is held back until the cell wrote none for this time, because one message is written in many parts.
const HOLD: Duration = Duration::from_millis(30);
/// Text that keeps growing is held back for this time at most.
const HOLD_GROWING: Duration = Duration::from_millis(200);
/// A panic's message is held back for longer, because the cell's values are dropped before the marker comes.
const HOLD_PANIC: Duration = Duration::from_secs(1);
/// More bytes than this are reported.
pub const MAX_HELD: usize = 1 << 16;

pub struct HeldError {
    bytes: Vec<u8>,
    /// The time of the first and of the last byte.
    since: Instant,
    grown: Instant,
    /// The text that was taken last.
    last: String,
    /// The last text that was taken and holds a panic's message.
    panic: String,
}

impl HeldError {
    pub fn new() -> Self {
        let now = Instant::now();
        HeldError { bytes: Vec::new(), since: now, grown: now, last: String::new(), panic: String::new() }
    }

    /// Adds bytes. Returns the text that becomes too long to be held.
    pub fn add(&mut self, bytes: &[u8]) -> Option<String> {
        if !bytes.is_empty() {
            self.grown = Instant::now();
            if self.bytes.is_empty() {
                self.since = self.grown;
            }
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() <= MAX_HELD {
            return None;
        }
        // The beginning of a panic's message is kept and its end cut off.
        let text = self.take_before_panic();
        self.bytes.truncate(MAX_HELD);
        text
    }

    /// Takes the text, except a character whose end is missing.
    pub fn take(&mut self) -> Option<String> {
        let rest = self.bytes.split_off(whole_characters(&self.bytes));
        self.take_and_keep(rest)
    }

    /// Takes all text. A character whose end is missing is replaced.
    pub fn take_all(&mut self) -> Option<String> {
        self.take_and_keep(Vec::new())
    }

    /// Takes the text before a panic's message.
    pub fn take_before_panic(&mut self) -> Option<String> {
        match find_panic(&self.bytes) {
            Some(start) => {
                let message = self.bytes.split_off(start);
                self.take_and_keep(message)
            }
            None => self.take(),
        }
    }

    fn take_and_keep(&mut self, rest: Vec<u8>) -> Option<String> {
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.bytes, rest)).into_owned();
        self.grown = Instant::now();
        if text.is_empty() {
            return None;
        }
        self.last.clone_from(&text);
        if find_panic(text.as_bytes()).is_some() {
            self.panic.clone_from(&text);
        }
        Some(text)
    }

    /// Takes the message of a panic, also if it was taken as a text before. Returns an empty text if there is none.
    pub fn take_panic(&mut self) -> String {
        if find_panic(&self.bytes).is_some() {
            self.take_all();
        }
        let text = std::mem::take(&mut self.panic);
        find_panic(text.as_bytes()).map_or(String::new(), |start| text[start..].trim_start().to_string())
    }

    /// Returns the last text.
    pub fn last(&self) -> String {
        if self.bytes.is_empty() { self.last.clone() } else { String::from_utf8_lossy(&self.bytes).into_owned() }
    }

    /// Forgets the texts of a cell that has ended.
    pub fn forget(&mut self) {
        self.last.clear();
        self.panic.clear();
    }

    /// Returns how much longer the text is held back. `None` if there is none.
    pub fn held_for(&self) -> Option<Duration> {
        let held = match find_panic(&self.bytes) {
            Some(_) => HOLD_PANIC.saturating_sub(self.since.elapsed()),
            None => HOLD.saturating_sub(self.grown.elapsed()).min(HOLD_GROWING.saturating_sub(self.since.elapsed())),
        };
        (!self.bytes.is_empty()).then_some(held)
    }
}

/// Finds the offset of the last panic's message, which is a line break and, at the beginning of a line, "thread 'main'
/// panicked at src/lib.rs:1:1:".
fn find_panic(error: &[u8]) -> Option<usize> {
    let is_panic = |line: &[u8]| line.starts_with(b"thread '") && line.windows(12).any(|part| part == b"panicked at ");
    let mut start = error.len();
    error.split_inclusive(|byte| *byte == b'\n').rev().find_map(|line| {
        start -= line.len();
        is_panic(line).then_some(start.saturating_sub(1))
    })
}
