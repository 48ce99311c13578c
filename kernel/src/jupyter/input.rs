//! Input that a cell requests from the user, on the stdin socket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use jupyter_zmq_client::RouterSendConnection;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::cell::event::{Question, Stream};
use crate::cell::input::Answer;
use crate::engine::state::{KernelState, Phase, content, message};

/// This answer ends the cell's input. In a terminal, the key Ctrl-D does.
const END: &str = "^D";
const END_CHARACTER: &str = "\u{4}";
const REFUSAL: &str = "The cell reads standard input, but this client answers no questions (allow_stdin is false), so the \
                       cell's input has ended.\n";

pub struct Input {
    pub state: Arc<KernelState>,
    pub runtime: Handle,
    /// The socket for requests, and the replies to them.
    pub stdin: Mutex<(RouterSendConnection, UnboundedReceiver<JupyterMessage>)>,
}

impl Input {
    /// Asks the user and waits for the answer, for an interrupt, or for the end of the cell.
    pub fn request(&self, question: &Question) -> Answer {
        let Some(request) = self.state.cell().request.clone() else { return Answer::Nothing };
        let (stdin, replies) = &mut *self.stdin.lock().unwrap();
        // Discard replies for cells that were interrupted.
        while replies.try_recv().is_ok() {}
        if let Some(answer) = self.answer_without_user() {
            return answer;
        }
        let sent = self.runtime.block_on(stdin.send(message("input_request", json!(question), &request)));
        while sent.is_ok() {
            let reply = async { timeout(Duration::from_millis(50), replies.recv()).await };
            if let Ok(Some(reply)) = self.runtime.block_on(reply) {
                return match content(&reply)["value"].as_str().unwrap_or_default() {
                    END | END_CHARACTER => Answer::End,
                    line => Answer::Line(line.to_string()),
                };
            }
            if let Some(answer) = self.answer_without_user() {
                return answer;
            }
        }
        Answer::End
    }

    /// Returns the answer to a question that is interrupted, or to one that nothing waits for any more.
    fn answer_without_user(&self) -> Option<Answer> {
        let mut cell = self.state.cell();
        if cell.phase != Phase::Running || cell.process_has_ended() {
            return Some(Answer::Nothing);
        }
        cell.interrupted_at_question |= cell.interrupts > 0;
        cell.interrupted_at_question.then_some(Answer::Interrupt)
    }

    /// Answers a question of a cell whose client answers none. Says so once for each cell.
    pub fn refuse(&self) -> Answer {
        if !std::mem::replace(&mut self.state.cell().refusal_told, true) {
            self.state.publish_output("stream", json!({ "name": Stream::Stderr, "text": REFUSAL }));
        }
        Answer::End
    }
}
