//! The expressions that a client wants to know after a cell.

use ra_ap_syntax::Edition;
use ra_ap_syntax::ast::{self, AstNode};
use serde_json::{Map, Value, json};

use super::Engine;
use super::failure::Failure;
use crate::cell::event::Bundle;
use crate::cell::input::Answer;

impl Engine {
    /// Evaluates the `user_expressions` of an `execute_request`. Returns the outcome of each by its name.
    pub fn evaluate_expressions(&mut self, expressions: &Value) -> Value {
        let mut outcomes = Map::new();
        for (name, expression) in expressions.as_object().into_iter().flatten() {
            let outcome = self.evaluate_expression(expression.as_str().unwrap_or_default());
            outcomes.insert(name.clone(), outcome.unwrap_or_else(|failure| error(&failure)));
        }
        outcomes.into()
    }

    fn evaluate_expression(&mut self, expression: &str) -> Result<Value, Failure> {
        if self.state.cell().interrupts > 0 {
            return Err(Failure {
                name: "Interrupted".into(),
                ..Failure::error("an interrupt came before this expression")
            });
        }
        if !is_expression(expression) {
            return Err(Failure::error(format!("`{expression}` isn't an expression, so it has no value")));
        }
        self.state.cell().captured = Some(Bundle::default());
        let outcome = self.evaluate(expression, |_| Answer::End);
        let bundle = self.state.cell().captured.take().unwrap_or_default();
        outcome.map(|()| json!({ "status": "ok", "data": bundle.data, "metadata": bundle.metadata }))
    }
}

fn error(failure: &Failure) -> Value {
    let mut error = failure.content();
    error["status"] = "error".into();
    error
}

fn is_expression(text: &str) -> bool {
    let parsed = ast::Expr::parse(text.trim(), Edition::CURRENT);
    parsed.errors().is_empty() && ast::Expr::can_cast(parsed.syntax_node().kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_expressions_have_a_value() {
        for text in ["x", "a.b[1].c()", "{ let y = 1; y + 1 }", " 1 + 1 ", "vec![1, 2]", "if a { b } else { c }"] {
            assert!(is_expression(text), "{text}");
        }
        for text in ["", " ", "let y = 1", "x;", "1 2", ":vars", "fn f() {}", "use a::b", "x +", "a) + (b"] {
            assert!(!is_expression(text), "{text}");
        }
    }
}
