//! Training: optimizer, learning rate schedule, epoch loop, history, checkpoints and live progress.

mod adamw;
mod history;
mod resume;
mod schedule;
mod trainer;
mod view;

pub use adamw::AdamW;
pub use history::{Epoch, History};
pub use schedule::{learning_rate, step_learning_rate};
pub use trainer::{Batch, Epochs, OnStep, Step, TrainScore, Trainer};
