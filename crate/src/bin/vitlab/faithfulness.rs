//! The options of `vitlab explain` that measure maps: faithfulness, options chosen by it, and sanity checks.

use std::io::Write;
use std::path::PathBuf;

use clap::ArgGroup;
use serde_json::{Map, Value, json};
use tch::Tensor;
use vitlab::config::Precision;
use vitlab::explain::{Baseline, Candidate, Choice, Comparison, Heatmap, Rollout, Score, Target, Trial};
use vitlab::learner::{Agreement, Chosen, Method, RolloutGrid, Sanity};
use vitlab::notebook::Table;
use vitlab::statistics::Estimate;
use vitlab::{Error, Learner, Result, file};

use crate::images::Selected;
use crate::options::extension;
use crate::pace::Pace;

/// The options that choose the map. --auto chooses it, and refuses them.
const OF_THE_MAP: [&str; 8] = ["name", "class", "head", "fusion", "discard", "discard_per", "layers", "compat"];

/// Sides up to this many pixels make a forward pass so cheap that more images and steps are measured by default.
const SMALL: i64 = 64;

/// Most images of the sanity checks by default: each stage needs maps by methods with gradients.
const MOST_FOR_SANITY: i64 = 200;

/// Random orders in all that make a steady comparison, and most per image. A single image's random order is a matter of
/// chance.
const STEADY: usize = 100;
const MOST_ORDERS: usize = 10;

/// Measurements of maps.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("measured").args(["faithfulness", "auto", "sanity"]).multiple(true))]
pub struct Measurements {
    /// Print the areas under the deletion and insertion curves of the map beside those of a random order of the patches,
    /// with standard errors over the images.
    #[arg(long)]
    faithfulness: bool,
    /// Choose the rollout's fusion, discard and layers: those with the best areas on one half of the images. Print all of
    /// them, and the chosen one on the other half beside other methods. --out then uses them.
    #[arg(long, conflicts_with_all = OF_THE_MAP, conflicts_with = "faithfulness")]
    auto: bool,
    /// Print the rank correlation of the maps with those of the model whose layers are randomised from the top. With --auto
    /// for the chosen rollout and the other methods.
    #[arg(long)]
    sanity: bool,
    /// Write what is printed to this file, too, with all options and seeds.
    #[arg(long, value_name = "FILE.json", requires = "measured")]
    json: Option<PathBuf>,
    /// Measure at most N of the images, drawn by --seed [default: 1000, or 32 for a model of more than 64 pixels a side; 200
    /// of them for --sanity].
    #[arg(long, value_name = "N", requires = "measured", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Steps of a deletion or insertion curve; each is a forward pass [default: 49 for --faithfulness, or 14 for a model of
    /// more than 64 pixels a side; 14 for --auto].
    #[arg(long, value_name = "N", requires = "measured", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Replacement for deleted pixels: the image's mean of each channel, or the blurred image.
    #[arg(long, default_value = "mean", value_name = "mean|blur", requires = "measured")]
    baseline: Baseline,
    /// Seed of the sample, the halves, the random order and the random weights.
    #[arg(long, default_value_t = 42, value_name = "N", requires = "measured")]
    seed: u64,
}

/// The images that are measured.
struct Sample {
    images: Tensor,
    count: usize,
    /// Number and source in words.
    words: String,
    json: Value,
}

impl Measurements {
    /// An error for options that don't go together.
    pub fn check(&self, precision: Precision, each_head: bool) -> Result<()> {
        if self.faithfulness && each_head {
            return Err(Error::argument("--faithfulness measures one map of an image; give --head N, or leave it out"));
        }
        if let Some(path) = self.json.as_ref().filter(|path| extension(path) != "json") {
            return Err(Error::file(path, "--json must end in .json"));
        }
        if (self.auto || self.sanity) && precision != Precision::Float32 {
            let problem = "--auto and --sanity need gradients, which are float32; leave --precision out";
            return Err(Error::argument(problem));
        }
        Ok(())
    }

    /// Measures and prints what is asked for. With `--auto`, returns the chosen rollout.
    pub fn print(
        &self,
        weights: &str,
        learner: &Learner,
        selected: &Selected,
        method: &Method,
        heatmap: &Heatmap,
    ) -> Result<Option<Rollout>> {
        if !(self.faithfulness || self.auto || self.sanity) {
            return Ok(None);
        }
        learner.network().prefix_tokens()?; // a CNN has no attention
        let sample = self.sample(selected, learner.preprocessing().side);
        let mut written = Map::new();
        written.insert("weights".into(), json!(weights));
        written.insert("images".into(), sample.json.clone());
        written.insert("query".into(), json!(heatmap.query));
        if (self.faithfulness || self.auto) && learner.faithfulness_score() == Score::Similarity {
            eprintln!(
                "note: the model has no class head, so the curves follow the cosine similarity of its features with those of \
                 the unchanged image, instead of a probability"
            );
        }
        let mut methods = vec![(words(method), method.clone())];
        if self.faithfulness {
            written.insert("faithfulness".into(), self.faithfulness(learner, &sample, method, heatmap)?);
        }
        let mut chosen = None;
        if self.auto {
            let (rollout, json) = self.choose(learner, &sample, heatmap)?;
            written.insert("auto".into(), json);
            methods = vec![(words(&Method::Rollout(rollout.clone())), Method::Rollout(rollout.clone()))];
            methods.extend(Learner::reference_methods());
            chosen = Some(rollout);
        }
        if self.sanity {
            let most = if self.sample.is_some() { sample.count as i64 } else { MOST_FOR_SANITY };
            let images = sample.images.narrow(0, 0, most.min(sample.count as i64)); // [N, …] -> [n, …]
            let mut pace = Pace::new("maps");
            let sanity =
                learner.sanity(&images, &methods, heatmap.query, self.seed, |done, all| pace.set(done, all))?;
            pace.finish();
            let count = images.size()[0] as usize;
            println!("{}\n", sanity_table(&sanity, count, &selected.source));
            let mut sanity = json!(sanity);
            sanity["images"] = json!(count);
            written.insert("sanity".into(), sanity);
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&written).expect("plain JSON");
            file::replace(path, |out| writeln!(out, "{text}"))?;
            println!("written to {}", path.display());
        }
        Ok(chosen)
    }

    fn sample(&self, selected: &Selected, side: i64) -> Sample {
        let count = selected.images.size()[0] as usize;
        let most = self.sample.map_or(if side <= SMALL { 1000 } else { 32 }, |most| most as usize);
        let json =
            json!({ "source": selected.source, "available": count, "measured": count.min(most), "seed": self.seed });
        if count <= most {
            let images = if count == 1 { "image" } else { "images" };
            let words = format!("{count} {images} of {}", selected.source);
            return Sample { images: selected.images.shallow_clone(), count, words, json };
        }
        let mut drawn: Vec<i64> = (0..count as i64).collect();
        fastrand::Rng::with_seed(self.seed).shuffle(&mut drawn);
        drawn.truncate(most);
        drawn.sort_unstable();
        let indices = Tensor::from_slice(&drawn).to_device(selected.images.device());
        let words = format!("{most} of {count} images of {}, drawn by seed {}", selected.source, self.seed);
        Sample { images: selected.images.index_select(0, &indices), count: most, words, json }
    }

    fn trial(&self, steps: u32, sample: &Sample, heatmap: &Heatmap) -> Trial {
        let steps = self.steps.unwrap_or(steps) as usize;
        let orders = STEADY.div_ceil(sample.count).min(MOST_ORDERS);
        Trial {
            steps,
            baseline: self.baseline,
            orders,
            seed: self.seed,
            upsample: heatmap.upsample,
            ..Trial::default()
        }
    }

    fn faithfulness(&self, learner: &Learner, sample: &Sample, method: &Method, heatmap: &Heatmap) -> Result<Value> {
        let trial = self.trial(if learner.preprocessing().side <= SMALL { 49 } else { 14 }, sample, heatmap);
        let maps = learner.explain(&sample.images, method, heatmap, |_| ())?.grids;
        let candidate = Candidate { name: words(method), maps };
        let target = method.class().map_or(Target::Predicted, Target::Class);
        let mut pace = Pace::new("forward passes");
        let compared =
            learner.compare(&sample.images, &[candidate], &target, &trial, |done, all| pace.set(done, all))?;
        pace.finish();
        let title = format!("Deletion and insertion: {}; {}", sample.words, of_trial(&trial));
        println!("{}\n\n{SCORE}\n", comparison_table(&title, &compared, None));
        let class = if let Target::Class(class) = target { Some(class) } else { None };
        Ok(json!({ "trial": of_model(&trial, learner), "class": class, "compared": compared }))
    }

    fn choose(&self, learner: &Learner, sample: &Sample, heatmap: &Heatmap) -> Result<(Rollout, Value)> {
        let trial = self.trial(14, sample, heatmap);
        let grid = RolloutGrid::default();
        let mut pace = Pace::new("forward passes");
        let progress = |done, all| pace.set(done, all);
        let chosen = learner.choose(&sample.images, &grid, heatmap.query, &trial, progress)?;
        pace.finish();
        let [choosing, reporting] = chosen.choice.halves.each_ref().map(Vec::len);
        println!("Rollouts by deletion and insertion: {}; {}\n", sample.words, of_trial(&trial));
        println!("{}\n", cells(&chosen, choosing));
        let title = format!("The other half, {reporting} images that had no part in the choice");
        println!("{}\n\n{SCORE}", comparison_table(&title, &chosen.choice.reported, Some(&chosen.choice.lead)));
        let Rollout { fusion, discard_ratio, layers, .. } = &chosen.rollout;
        let verdict = match chosen.choice.reported[0].score {
            Estimate { mean, error: Some(error) } if mean > 2.0 * error => "",
            _ => ", which is not better than random order by two standard errors",
        };
        println!("chosen: --fusion {fusion} --discard {discard_ratio} --layers {layers}{verdict}\n");
        let json = json!({
            "trial": of_model(&trial, learner),
            "score": "(insertion - deletion) minus that of random order",
            "chosen": chosen.rollout,
            "rollouts": chosen.rollouts,
            "choosing_half": { "images": choosing, "compared": chosen.choice.tried, "lead": chosen.choice.tried_lead },
            "reporting_half": { "images": reporting, "compared": chosen.choice.reported, "lead": chosen.choice.lead },
        });
        Ok((chosen.rollout, json))
    }
}

const SCORE: &str = "score: (insertion − deletion) minus that of random order; ± standard error over the images";

/// The steps of the curves in words.
fn of_trial(trial: &Trial) -> String {
    let Trial { steps, baseline, orders, seed, .. } = trial;
    let random = if *orders == 1 { "random order".into() } else { format!("{orders} random orders per image") };
    format!("{steps} steps, baseline {baseline}, {random} by seed {seed}")
}

/// The trial with the score that the model has.
fn of_model(trial: &Trial, learner: &Learner) -> Trial {
    Trial { score: learner.faithfulness_score(), ..trial.clone() }
}

/// A method and its options in words.
fn words(method: &Method) -> String {
    let options =
        |rollout: &Rollout| format!("rollout {} {} {}", rollout.fusion, rollout.discard_ratio, rollout.layers);
    match method {
        Method::Rollout(rollout) => options(rollout),
        Method::GradientRollout(rollout, _) => format!("gradient {}", options(rollout)),
        Method::Relevance(_) => "relevance".into(),
        Method::Attention { layer, head } => {
            let layer = layer.map_or("the last layer".into(), |layer| format!("layer {layer}"));
            let head = head.map_or(String::new(), |head| format!(", head {head}"));
            format!("attention of {layer}{head}")
        }
        Method::GradCam(_) => "Grad-CAM".into(),
        Method::AttnLrp(_) => "AttnLRP".into(),
    }
}

fn comparison_table(title: &str, compared: &[Comparison], lead: Option<&[Estimate]>) -> Table {
    let mut header =
        vec!["map", "deletion (low is good)", "against random", "insertion (high is good)", "against random"];
    header.push("score");
    header.extend(lead.map(|_| "chosen − this"));
    let last = compared.len() - 1;
    let mut rows = Vec::new();
    for (index, row) in compared.iter().enumerate() {
        let or_dash = |dash: bool, estimate: Estimate| if dash { "–".to_string() } else { signed(estimate) };
        let mut cells = vec![
            row.name.clone(),
            format!("{:.3}", row.deletion.mean),
            or_dash(index == last, row.deletion_against_random),
            format!("{:.3}", row.insertion.mean),
            or_dash(index == last, row.insertion_against_random),
            or_dash(index == last, row.score),
        ];
        cells.extend(lead.map(|lead| or_dash(index == 0, lead[index])));
        rows.push(cells);
    }
    Table::new(title, &header, &rows)
}

/// The rollouts on the choosing half, the best first.
fn cells(chosen: &Chosen, choosing: usize) -> Table {
    let Choice { best, tried, tried_lead, .. } = &chosen.choice;
    let mut order = Vec::from_iter(0..chosen.rollouts.len());
    order.sort_by(|&a, &b| tried[b].score.mean.total_cmp(&tried[a].score.mean));
    let row = |&index: &usize| {
        let (rollout, row) = (&chosen.rollouts[index], &tried[index]);
        let layers = rollout.layers.to_string();
        let behind = if index == *best { "–".to_string() } else { signed(tried_lead[index]) };
        let measured = [row.deletion_against_random, row.insertion_against_random, row.score].map(signed);
        [rollout.fusion.to_string(), rollout.discard_ratio.to_string(), layers]
            .into_iter()
            .chain(measured)
            .chain([behind])
            .collect()
    };
    let title = format!("The choosing half, {choosing} images: differences from random order");
    let header = ["fusion", "discard", "layers", "deletion", "insertion", "score", "best − this"];
    Table::new(&title, &header, &order.iter().map(row).collect::<Vec<_>>())
}

fn sanity_table(sanity: &Sanity, count: usize, source: &str) -> Table {
    // A flat map has no ranks, and no correlation.
    let cell = |agreement: &Agreement| match agreement.correlation {
        Some(correlation) if agreement.images < count => {
            format!("{} ({} images)", signed(correlation), agreement.images)
        }
        Some(correlation) => signed(correlation),
        None => "–".to_string(),
    };
    let rows = sanity.stages.iter().zip(&sanity.agreement);
    let rows = rows.map(|(stage, cells)| [stage.clone()].into_iter().chain(cells.iter().map(cell)).collect());
    let title = format!(
        "Rank correlation (Spearman) with the model's own maps: {count} images of {source}; each line is randomised with all \
         lines above it (seed {})",
        sanity.seed
    );
    let header: Vec<&str> = ["randomised"].into_iter().chain(sanity.methods.iter().map(String::as_str)).collect();
    Table::new(&title, &header, &rows.collect::<Vec<_>>())
}

/// A difference with its sign and standard error.
fn signed(estimate: Estimate) -> String {
    let mean = format!("{:+.3}", estimate.mean).replace('-', "−");
    estimate.error.map_or(mean.clone(), |error| format!("{mean} ± {error:.3}"))
}
