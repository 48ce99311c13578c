//! Evidence for statements about trainings: a plan of runs over several seeds, measures of the networks, and tables of both.

mod attention;
mod heads;
mod measures;
mod plan;
mod report;
mod tokens;

pub use attention::{AttentionMeasures, LayerMeasures, Lengths, OfRollouts, OwnShare};
pub use heads::{HeadMeasures, TeacherMeasures};
pub use measures::{Measures, translated};
pub use plan::{Plan, Run, Teacher, checkpoint_path, history_path, measures_path};
pub use report::{Evidence, fill};
pub use tokens::TokenMeasures;
