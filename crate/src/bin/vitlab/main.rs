//! The command `vitlab`: train and evaluate the models without a notebook.

mod evaluate;
mod kind;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Vision Transformer, DeiT student and CNN teacher on FashionMNIST.
#[derive(Parser)]
#[command(name = "vitlab", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  vitlab train --model vit --out outputs/vit            the homework's ViT, ten epochs
  vitlab train --model cnn --epochs 10 --out outputs/teacher
  vitlab train --model deit --teacher outputs/teacher/cnn_model.pt --out outputs/deit
  vitlab evaluate --weights models/ViT_model.pt         accuracy, loss, confusion matrix
  vitlab evaluate --weights models/ViT_model.pt --json";

#[derive(Subcommand)]
enum Command {
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Train(arguments) => train::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
