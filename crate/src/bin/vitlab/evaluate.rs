//! `vitlab evaluate`.

use serde_json::json;
use tch::{Device, Tensor};
use vitlab::Result;
use vitlab::data::{CLASSES, Dataset, source};
use vitlab::metrics::{Evaluation, evaluate_with};

use crate::images::SplitName;
use crate::learner::{Inference, Learner};

/// Accuracy, loss and confusion matrix of a weight file; for a DeiT each head and their average.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    inference: Inference,
    /// Folder with FashionMNIST, or `synthetic` for the drawn stand-in.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    #[arg(long, value_enum, default_value = "test")]
    split: SplitName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let mut learner = arguments.inference.learner()?;
    let source = source::find(arguments.data.as_deref())?;
    let data = Dataset::read(&source, arguments.split.into(), arguments.inference.device()?)?;
    let results = evaluate_heads(&mut learner, &data)?;
    if arguments.json {
        let rows: Vec<_> = results.iter().map(|(name, evaluation)| as_json(name, evaluation)).collect();
        let text = json!({ "data": source.to_string(), "images": data.len(), "results": rows });
        println!("{}", serde_json::to_string_pretty(&text).expect("plain JSON"));
        return Ok(());
    }
    println!("{} {} images of {source}", data.len(), data.split.name());
    for (name, evaluation) in &results {
        println!("{name}: accuracy {:.2} %, loss {:.4}", evaluation.accuracy * 100.0, evaluation.loss);
    }
    println!("\nconfusion (row: true class, column: predicted class)");
    for (class, row) in CLASSES.iter().zip(results[0].1.confusion().outer_iter()) {
        let cells: Vec<String> = row.iter().map(|count| format!("{count:>5}")).collect();
        println!("{class:<12}{}", cells.join(""));
    }
    Ok(())
}

/// The model's scores and, of a DeiT, those of each head, all from one pass over the data.
pub fn evaluate_heads(learner: &mut Learner, data: &Dataset) -> Result<Vec<(&'static str, Evaluation)>> {
    let mut heads: [Vec<Tensor>; 2] = Default::default();
    let average = evaluate_with(data, |images| {
        let scores = learner.heads(images)?;
        let average = scores.iter().sum::<Tensor>() / scores.len() as f64;
        for (all, scores) in heads.iter_mut().zip(scores) {
            all.push(scores.to_device(Device::Cpu));
        }
        Ok(average)
    })?;
    if heads[1].is_empty() {
        return Ok(vec![("model", average)]);
    }
    let head = |scores: &[Tensor]| {
        let (labels, origin) = (average.labels.shallow_clone(), average.origin.clone());
        Evaluation::new(Tensor::cat(scores, 0), labels, origin)
    };
    let [class, dist] = [head(&heads[0])?, head(&heads[1])?];
    Ok(vec![("average of both heads", average), ("class head", class), ("distillation head", dist)])
}

fn as_json(name: &str, evaluation: &Evaluation) -> serde_json::Value {
    let confusion: Vec<Vec<u64>> = evaluation.confusion().outer_iter().map(|row| row.to_vec()).collect();
    json!({
        "name": name,
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "confusion": confusion,
    })
}
