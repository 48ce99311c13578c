//! `vitlab evaluate`.

use serde_json::json;
use vitlab::data::Origin;
use vitlab::metrics::{Evaluation, evaluate_heads};
use vitlab::{Error, Learner, Result};

use crate::images::listed;
use crate::options::{Data, Inference, check_takes_data_set};

/// Accuracy, loss and confusion matrix of a checkpoint file; for a DeiT each head and their average.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    inference: Inference,
    #[command(flatten)]
    data: Data,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let (learner, device) = arguments.inference.learner()?;
    check_takes_data_set(&learner)?;
    let (source, data) = arguments.data.read(device)?;
    check_classes(&learner, &data.origin)?;
    let heads = evaluate_heads(&data, |images| learner.heads(images))?;
    let mut results: Vec<_> = ["class head", "distillation head"].into_iter().zip(heads).collect();
    match &results[..] {
        [(_, class), (_, distillation)] => {
            results.insert(0, ("average of both heads", Evaluation::mean(class, distillation)?));
        }
        _ => results[0].0 = "model",
    }
    if arguments.json {
        let rows: Vec<_> = results.iter().map(|(name, evaluation)| as_json(name, evaluation)).collect();
        let text = json!({ "data": source, "dataset": data.origin.dataset, "images": data.len(), "results": rows });
        println!("{}", serde_json::to_string_pretty(&text).expect("plain JSON"));
        return Ok(());
    }
    println!("{} {} images of {source}", data.len(), data.split.name());
    for (name, evaluation) in &results {
        println!("{name}: accuracy {:.2} %, loss {:.4}", evaluation.accuracy * 100.0, evaluation.loss);
    }
    println!("\nconfusion (row: true class, column: predicted class)");
    for (class, row) in data.origin.classes().iter().zip(results[0].1.confusion().outer_iter()) {
        println!("{class:<12}{}", row.iter().map(|count| format!("{count:>5}")).collect::<String>());
    }
    Ok(())
}

/// An error unless the model tells the classes of the data set apart. Letters and digits of their names count.
fn check_classes(learner: &Learner, origin: &Origin) -> Result<()> {
    let letters =
        |name: &str| name.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>().to_lowercase();
    let (names, classes) = (learner.class_names(), origin.classes());
    let known = learner.classes().is_none_or(|known| known.iter().zip(classes).all(|(a, b)| letters(a) == letters(b)));
    if names.len() == classes.len() && known {
        return Ok(());
    }
    Err(Error::argument(format!(
        "the model tells {} classes apart ({}), not the {} of {}; predict classifies pictures with it",
        names.len(),
        listed(&names),
        classes.len(),
        origin.dataset
    )))
}

fn as_json(name: &str, evaluation: &Evaluation) -> serde_json::Value {
    let confusion: Vec<Vec<u64>> = evaluation.confusion().outer_iter().map(|row| row.to_vec()).collect();
    json!({ "name": name, "accuracy": evaluation.accuracy, "loss": evaluation.loss, "confusion": confusion })
}
