//! The folder of a training: its checkpoint between epochs, its weights and history at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::{History, Trainer};
use crate::checkpoint::{self, state_dict};
use crate::data::Dataset;
use crate::model::Model;
use crate::{Error, Result};

/// The files of one training in a folder: `NAME_checkpoint.safetensors` while it runs, `NAME.pt`, `NAME.safetensors` and
/// `NAME.json` (its [`History`]) when it is finished. `NAME.lock` keeps a second training out.
#[derive(Debug)]
pub struct TrainingFolder {
    folder: PathBuf,
    name: String,
    lock: Option<Lock>,
}

/// The use of files that an earlier training left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// An error. The checkpoint of a training that was interrupted in its first epoch is replaced.
    Refuse,
    /// Continues an unfinished training.
    Resume,
    /// Trains anew and replaces them.
    Replace,
}

/// The state of a training after [`TrainingFolder::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// All epochs are to be trained.
    New,
    /// So many epochs were complete.
    Resumed(usize),
    /// The same training was finished before; nothing is left to do. The trainer has its history, the model's weights are
    /// not read.
    Finished,
}

impl TrainingFolder {
    /// Creates the folder if it is missing, and locks the training `name` in it.
    ///
    /// # Errors
    /// Fails if the path is a file or the folder can't be written, or while another training of this name runs in it.
    pub fn open(folder: impl Into<PathBuf>, name: &str) -> Result<Self> {
        let folder = folder.into();
        if folder.exists() && !folder.is_dir() {
            return Err(Error::file(folder, "is a file; name a folder for the files of the training"));
        }
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::file(&folder, format!("can't be created ({error}); choose a folder that is writable"))
        })?;
        let lock = Lock::take(folder.join(format!("{name}.lock")))?;
        Ok(TrainingFolder { folder, name: name.to_string(), lock })
    }

    /// Whether the folder's file system has locks. Without them, a second training isn't noticed.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}{end}", self.name))
    }

    fn checkpoint(&self) -> PathBuf {
        self.file("_checkpoint.safetensors")
    }

    /// The files of a finished training: weights in both formats, and the history.
    fn results(&self) -> [PathBuf; 3] {
        [".pt", ".safetensors", ".json"].map(|end| self.file(end))
    }

    /// Looks for files of an earlier training, resumes from its checkpoint if `earlier` says so, and writes the checkpoint:
    /// a folder that isn't writable or full is noticed before the first step.
    ///
    /// # Errors
    /// Files of an earlier training that `earlier` doesn't allow to replace; a checkpoint or results of another training,
    /// configuration or data; a folder that can't be written.
    pub fn begin(&self, trainer: &mut Trainer, model: &impl Model, data: &Dataset, earlier: Earlier) -> Result<Begin> {
        let checkpoint = self.checkpoint();
        let result = self.results().into_iter().find(|path| path.exists());
        let begin = match (earlier, result) {
            (Earlier::Refuse, _) if checkpoint.exists() && !holds_no_epoch(&checkpoint) => {
                let problem = "is the checkpoint of an unfinished training; add --resume to continue it, or --force to start anew";
                return Err(Error::file(checkpoint, problem));
            }
            (Earlier::Refuse, Some(result)) => {
                let problem = "is there from an earlier training; choose another folder, or add --force to replace it";
                return Err(Error::file(result, problem));
            }
            (Earlier::Resume, Some(result)) if !checkpoint.exists() => {
                trainer.history = self.finished(trainer, data, &result)?;
                return Ok(Begin::Finished);
            }
            (Earlier::Resume, _) if checkpoint.exists() => match trainer.resume(model, &checkpoint, data)? {
                0 => Begin::New,
                epochs => Begin::Resumed(epochs),
            },
            _ => Begin::New,
        };
        trainer.history.origin = data.origin.clone();
        self.save(trainer, model)?;
        Ok(begin)
    }

    /// The history of the finished training that wrote `result`, if it is the one of `trainer`.
    fn finished(&self, trainer: &Trainer, data: &Dataset, result: &Path) -> Result<History> {
        let path = self.file(".json");
        if !path.exists() {
            let problem = "has neither a checkpoint nor a history beside it, so --resume can't continue it; \
                           choose another folder, or add --force to replace it";
            return Err(Error::file(result, problem));
        }
        let history = History::read(&path)?;
        let recipe = history.made_with.get("recipe").unwrap_or(&trainer.recipe);
        match trainer.mismatch(&history, recipe, data) {
            None => Ok(history),
            Some(other) => {
                let problem = format!(
                    "is the history of {other}. That training is finished and can't be continued: choose another folder, \
                     or add --force to replace it"
                );
                Err(Error::file(path, problem))
            }
        }
    }

    /// Writes the checkpoint.
    ///
    /// # Errors
    /// As [`Trainer::save`].
    pub fn save(&self, trainer: &Trainer, model: &impl Model) -> Result<()> {
        trainer.save(model, self.checkpoint())
    }

    /// Writes weights and history, then removes the checkpoint. Returns the files.
    ///
    /// # Errors
    /// A folder that can't be written; the checkpoint then stays.
    pub fn finish(self, trainer: &Trainer, model: &impl Model) -> Result<[PathBuf; 3]> {
        let [pt, safetensors, json] = self.results();
        let weights = state_dict(model.variables());
        checkpoint::write(&pt, &weights)?;
        // The word `pt` tells transformers whose tensors these are.
        let mut metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        metadata.extend(description(&trainer.history));
        checkpoint::write_safetensors(&safetensors, &weights, &metadata)?;
        trainer.history.write(&json)?;
        std::fs::remove_file(self.checkpoint()).ok();
        Ok([pt, safetensors, json])
    }
}

/// The metadata that every safetensors file of a training has: `config`, [`Config::to_json`](crate::Config::to_json), with
/// the number of heads, and `origin`, the data.
pub(super) fn description(history: &History) -> [(String, String); 2] {
    let origin = serde_json::to_string(&history.origin).expect("an Origin has a JSON form");
    [("config".to_string(), history.config.to_json()), ("origin".to_string(), origin)]
}

/// Whether a training stopped before its first epoch was complete, and nothing is lost with its checkpoint.
fn holds_no_epoch(checkpoint: &Path) -> bool {
    History::of_checkpoint(checkpoint).is_ok_and(|history| history.epochs.is_empty())
}
