//! Evidence for statements about trainings: a plan of runs over several seeds, and what their histories show.

mod plan;

pub use plan::{Plan, Run, Teacher};
