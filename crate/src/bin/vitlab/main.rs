//! The command `vitlab`: training, evaluation, predictions and explanations without a notebook.

mod bench;
mod convert;
mod evaluate;
mod evidence;
mod explain;
mod faithfulness;
mod images;
mod method;
mod options;
mod pace;
mod predict;
mod train;

#[cfg(test)]
#[path = "../../../../tests/arguments.rs"]
mod arguments;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Vision Transformers: trained on FashionMNIST, or any ViT's checkpoint, with pictures of your own.
#[derive(Parser)]
#[command(name = "vitlab", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  vitlab train --model vit --out outputs/vit            the homework's ViT, ten epochs
  vitlab train --model cnn --epochs 10 --out outputs/teacher
  vitlab train --model deit --teacher outputs/teacher/teacher_model.pt --out outputs/deit
  vitlab evaluate --weights models/ViT_model.pt         accuracy, loss, confusion matrix
  vitlab predict --weights models/ViT_model.pt --image dress.jpg      its class and the probability
  vitlab predict --weights models/ViT_model.pt --range 0..100 --attention --out scores.safetensors
  vitlab explain --weights models/ViT_model.pt --range 0..9 --fusion max --discard 0.9 --out maps.png
  vitlab convert models/ViT_model.pt ViT_model.safetensors";

#[derive(Subcommand)]
enum Command {
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Predict(predict::Arguments),
    Explain(explain::Arguments),
    Convert(convert::Arguments),
    Evidence(evidence::Arguments),
    /// The Rust side of `cargo lab bench`.
    #[command(hide = true)]
    Bench,
}

fn main() -> ExitCode {
    // A reader that closes the pipe, such as `head`, then ends the command without a panic.
    sigpipe::reset();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> vitlab::Result<()> {
    match arguments.command {
        Command::Train(arguments) => train::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Evidence(arguments) => evidence::run(arguments),
        Command::Bench => bench::run(),
    }
}
