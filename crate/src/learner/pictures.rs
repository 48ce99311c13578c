//! Pictures as a learner's input, and the names of its classes.

use super::Learner;
use crate::data::{CLASSES, Preprocessing};

/// The most images per batch. No result depends on it.
const MOST_IN_A_BATCH: i64 = 400;

impl Learner {
    /// Replaces the way in which pictures become the model's input, for a model made here. [`Learner::open`] takes it from
    /// the checkpoint.
    pub fn with_preprocessing(self, preprocessing: Preprocessing) -> Self {
        Learner { preprocessing, ..self }
    }

    /// The name of each class: the checkpoint's, those of FashionMNIST for ten classes of its pictures, or "class 17".
    ///
    /// ```
    /// use vitlab::{Config, Learner, learner::ModelKind, tch::Device};
    /// let vit = Learner::create(ModelKind::Vit, &Config::default(), Device::Cpu)?;
    /// assert_eq!(vit.class_names()[3], "Dress");
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn class_names(&self) -> Vec<String> {
        let count = self.network.classes();
        let fashion = count == CLASSES.len() as i64 && self.preprocessing == Preprocessing::fashion_mnist();
        let known: Vec<String> = match &self.classes {
            Some(classes) => classes.clone(),
            None if fashion => CLASSES.map(String::from).to_vec(),
            None => Vec::new(),
        };
        let name = |class: i64| known.get(class as usize).cloned().unwrap_or_else(|| format!("class {class}"));
        (0..count).map(name).collect()
    }

    /// How many images to compute at a time, so that the attention of all layers takes a bounded amount of memory.
    pub fn batch_size(&self) -> i64 {
        self.network.images_per_pass().min(MOST_IN_A_BATCH)
    }
}
