//! Table of the runs: models, teachers and constants.

use super::Results;
use super::cells::NONE;
use crate::learner::ModelKind;
use crate::notebook::Table;

/// Model, teachers, and the constants that differ from the homework's.
pub(super) fn table(runs: &[Results]) -> Table {
    let row = |Results { run, .. }: &Results| {
        let model = match run.model {
            ModelKind::Vit => "ViT",
            ModelKind::Cnn => "CNN",
            ModelKind::Deit => "DeiT",
        };
        let model = if run.untrained { format!("{model}, untrained") } else { model.to_string() };
        let teachers = Vec::from_iter(run.teachers.iter().map(|teacher| teacher.to_string())).join(", ");
        let or_none = |text: String| if text.is_empty() { NONE.to_string() } else { text };
        vec![run.name.clone(), model, or_none(teachers), or_none(run.constants())]
    };
    let header = ["run", "model", "teacher", "constants that differ from the homework's"];
    Table::new("The runs", &header, &Vec::from_iter(runs.iter().map(row)))
}
