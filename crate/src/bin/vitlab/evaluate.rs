//! `vitlab evaluate`.

use std::path::PathBuf;

use serde_json::json;
use tch::Tensor;
use vitlab::Result;
use vitlab::data::{CLASSES, Dataset, source};
use vitlab::device::device;
use vitlab::metrics::{Evaluation, evaluate, evaluate_with};
use vitlab::model::HeadLogits;

use crate::images::SplitName;
use crate::kind::Network;

/// Accuracy, loss and confusion matrix of a weight file; for a DeiT each head and their average.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Folder with FashionMNIST, or `synthetic` for the drawn stand-in.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    #[arg(long, value_enum, default_value = "test")]
    split: SplitName,
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let device = device(&arguments.device)?;
    let network = Network::read(&arguments.weights, device)?;
    let source = source::find(arguments.data.as_deref())?;
    let data = Dataset::read(&source, arguments.split.into(), device)?;
    let mut results = vec![("model", evaluate(&network, &data)?)];
    if let Network::Deit(model) = &network {
        let heads =
            |images: &Tensor| -> Result<HeadLogits> { Ok(model.forward(images, false, false)?.0) };
        results[0].0 = "average of both heads";
        results.push((
            "class head",
            evaluate_with(&data, |images| Ok(heads(images)?.class))?,
        ));
        results.push((
            "distillation head",
            evaluate_with(&data, |images| Ok(heads(images)?.dist))?,
        ));
    }
    if arguments.json {
        let rows: Vec<_> = results
            .iter()
            .map(|(name, evaluation)| as_json(name, evaluation))
            .collect();
        let text = json!({ "data": source.to_string(), "images": data.len(), "results": rows });
        println!(
            "{}",
            serde_json::to_string_pretty(&text).expect("plain JSON")
        );
        return Ok(());
    }
    println!("{} {} images of {source}", data.len(), data.split.name());
    for (name, evaluation) in &results {
        println!(
            "{name}: accuracy {:.2} %, loss {:.4}",
            evaluation.accuracy * 100.0,
            evaluation.loss
        );
    }
    println!("\nconfusion (row: true class, column: predicted class)");
    for (class, row) in CLASSES.iter().zip(results[0].1.confusion().outer_iter()) {
        let cells: Vec<String> = row.iter().map(|count| format!("{count:>5}")).collect();
        println!("{class:<12}{}", cells.join(""));
    }
    Ok(())
}

fn as_json(name: &str, evaluation: &Evaluation) -> serde_json::Value {
    let confusion: Vec<Vec<u64>> = evaluation
        .confusion()
        .outer_iter()
        .map(|row| row.to_vec())
        .collect();
    json!({
        "name": name,
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "confusion": confusion,
    })
}
