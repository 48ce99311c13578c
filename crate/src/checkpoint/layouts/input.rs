//! The input of a model, from timm's `pretrained_cfg` or transformers' preprocessor_config.json, and the classes' names.

use serde_json::Value;

use super::Layout;
use super::description::Description;
use crate::data::{Filter, Fit, Preprocessing};

/// Means and standard deviations of ImageNet's colours.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// The usual input of a library's models.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsualInput {
    /// Whether colours are normalised with ImageNet's statistics; else values are brought to [-1, 1].
    pub imagenet: bool,
    /// The input's side divided by the length to which the shorter side is scaled; `None` stretches both sides.
    pub crop: Option<f64>,
    pub filter: Filter,
}

impl UsualInput {
    fn preprocessing(self, side: i64, channels: i64) -> Preprocessing {
        let (mean, std) = match self.imagenet && channels == 3 {
            true => (IMAGENET.0.to_vec(), IMAGENET.1.to_vec()),
            false => (vec![0.5; channels as usize], vec![0.5; channels as usize]),
        };
        let fit = self.crop.map_or(Fit::Stretch, |crop| cropped(side, crop));
        Preprocessing { side, channels, fit, filter: self.filter, mean, std }
    }
}

/// An input, and remarks about it for the user.
pub(super) struct Input {
    pub preprocessing: Preprocessing,
    pub remarks: Vec<String>,
    /// Whether nothing but the layout told it.
    pub assumed: bool,
}

/// The input of a model with images [channels, side, side]. An input in the description that was made for another side
/// is enlarged or reduced as a whole.
pub(super) fn input(
    layout: &Layout,
    description: &Description,
    preprocessor: Option<&Value>,
    side: i64,
    channels: i64,
) -> Input {
    if layout.own {
        let values = vec![0.5; channels as usize];
        let preprocessing =
            Preprocessing { side, channels, mean: values.clone(), std: values, ..Preprocessing::fashion_mnist() };
        return Input { preprocessing, remarks: Vec::new(), assumed: false };
    }
    let usual = layout.input.preprocessing(side, channels);
    let mut input = Input { preprocessing: usual, remarks: Vec::new(), assumed: false };
    if let Some(given) = description.at("/pretrained_cfg") {
        input.read_timm(given);
    } else if let Some(given) = preprocessor {
        input.read_transformers(given);
    } else {
        input.assumed = true;
    }
    input
}

/// The side of the input that a preprocessor_config.json makes.
pub(super) fn preprocessor_side(preprocessor: &Value) -> Option<i64> {
    let cropped = preprocessor["do_center_crop"] != Value::Bool(false);
    cropped.then(|| edge(&preprocessor["crop_size"])).flatten().or_else(|| edge(&preprocessor["size"]))
}

impl Input {
    /// For messages.
    pub(super) fn description(&self) -> String {
        let Preprocessing { fit, filter, mean, std, .. } = &self.preprocessing;
        let fit = match fit {
            Fit::Crop { shorter } => format!("shorter side {shorter} and centre crop"),
            Fit::Stretch => "stretched".to_string(),
            Fit::Pad => "padded".to_string(),
            Fit::Garment => "cut out and centred".to_string(),
        };
        format!("{fit}, {filter:?}, mean {mean:?}, std {std:?}").to_lowercase()
    }

    fn read_timm(&mut self, given: &Value) {
        let side = self.preprocessing.side;
        let crop = given["crop_pct"].as_f64().filter(|crop| (0.1..=1.0).contains(crop)).unwrap_or(0.875);
        self.preprocessing.fit = match given["crop_mode"].as_str() {
            Some("squash") => Fit::Stretch,
            Some("border") => Fit::Pad,
            _ => cropped(side, crop),
        };
        if let Some(mode @ ("squash" | "border")) = given["crop_mode"].as_str().filter(|_| crop < 1.0) {
            self.remarks.push(format!("crop_mode {mode} is done without the crop to {crop} of the picture"));
        }
        self.filter(match given["interpolation"].as_str() {
            Some("nearest") => Some(Filter::Nearest),
            Some("bilinear") => Some(Filter::Bilinear),
            Some("lanczos") => Some(Filter::Lanczos),
            Some("bicubic") | None => Some(Filter::Bicubic),
            Some(_) => None,
        });
        self.colours(&given["mean"], &given["std"], 1.0);
    }

    fn read_transformers(&mut self, given: &Value) {
        let side = self.preprocessing.side;
        let made = preprocessor_side(given).unwrap_or(side);
        let scaled = |edge: i64| (edge as f64 * side as f64 / made as f64).round() as i64;
        let crops = given["do_center_crop"] != Value::Bool(false) && edge(&given["crop_size"]).is_some();
        let keeps_shape = given["size"].get("shortest_edge").is_some();
        self.preprocessing.fit = match edge(&given["size"]) {
            Some(edge) if crops || keeps_shape => Fit::Crop { shorter: scaled(edge).max(side) },
            _ => Fit::Stretch,
        };
        if crops && !keeps_shape {
            let remark = "its preprocessor stretches pictures before it crops them; here they keep their shape";
            self.remarks.push(remark.to_string());
        }
        if let Some(resample) = given["resample"].as_i64() {
            let filters = [Filter::Nearest, Filter::Lanczos, Filter::Bilinear, Filter::Bicubic]; // Pillow's numbers
            self.filter(filters.get(resample as usize).copied());
        }
        // Values are multiplied by this factor from 0 to 255, which vitlab has from 0 to 1.
        let factor = match given["do_rescale"].as_bool() {
            Some(false) => 255.0,
            _ => given["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0) * 255.0,
        };
        match given["do_normalize"].as_bool() {
            Some(false) => self.colours(&Value::from(0.0), &Value::from(1.0), factor),
            _ => self.colours(&given["image_mean"], &given["image_std"], factor),
        }
    }

    fn filter(&mut self, filter: Option<Filter>) {
        match filter {
            Some(filter) => self.preprocessing.filter = filter,
            None => self.remarks.push("its filter for scaling pictures is unknown; bicubic is taken".to_string()),
        }
    }

    /// One mean and deviation for each channel, or one for all. Values of pictures are multiplied by `factor` first.
    fn colours(&mut self, mean: &Value, std: &Value, factor: f64) {
        let channels = self.preprocessing.channels as usize;
        let numbers = |value: &Value| -> Option<Vec<f64>> {
            let numbers: Vec<f64> = match value {
                Value::Array(values) => values.iter().map(Value::as_f64).collect::<Option<_>>()?,
                single => vec![single.as_f64()?; channels],
            };
            Some(numbers.into_iter().map(|number| number / factor).collect())
        };
        match (numbers(mean), numbers(std)) {
            (Some(mean), Some(std)) if [mean.len(), std.len()] == [channels; 2] && std.iter().all(|std| *std > 0.0) => {
                self.preprocessing.mean = mean;
                self.preprocessing.std = std;
            }
            _ => {
                let Preprocessing { mean, std, .. } = &self.preprocessing;
                self.remarks.push(format!("mean {mean:?} and std {std:?} of pictures are assumed"));
            }
        }
    }
}

/// The length of a picture's side in transformers' notation: a number, or an object with one of these keys.
fn edge(value: &Value) -> Option<i64> {
    let keys = ["shortest_edge", "height"];
    let length = value.as_i64().or_else(|| keys.iter().find_map(|key| value.get(key)?.as_i64()));
    length.filter(|length| (1..1 << 16).contains(length))
}

/// timm rounds the length to which it scales the shorter side down.
fn cropped(side: i64, crop: f64) -> Fit {
    Fit::Crop { shorter: (side as f64 / crop).floor() as i64 }
}

/// The names of `count` classes: transformers' id2label, or timm's label_names.
pub(super) fn classes(description: &Description, count: i64) -> Option<Vec<String>> {
    let names: Vec<String> = if let Some(Value::Object(labels)) = description.at("/id2label") {
        (0..count).map(|id| Some(labels.get(&id.to_string())?.as_str()?.to_string())).collect::<Option<_>>()?
    } else {
        let labels = description.at("/label_names").or(description.at("/pretrained_cfg/label_names"))?.as_array()?;
        labels.iter().map(|label| label.as_str().map(String::from)).collect::<Option<_>>()?
    };
    let told = names.len() as i64 == count && !names.iter().all(|name| name.starts_with("LABEL_"));
    told.then_some(names)
}
