//! Maps compared with random order, options chosen by it, and sanity checks.

use std::collections::HashMap;

use ndarray::{Array3, Axis};
use tch::{Device, Kind, Tensor};
use vitlab::explain::{
    Candidate, Comparison, Fusion, Heatmap, Layers, MapScale, Query, Rollout, Score, Target, Trial, choose, compare,
    halves, random_maps, rank_correlations,
};
use vitlab::learner::{Learner, Method, RolloutGrid};
use vitlab::model::{Head, Model, Structure, ViTConfig, VisionTransformer};
use vitlab::statistics::{Estimate, rank_correlation};
use vitlab::{Config, Result};

use crate::{common, refusal};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn array(tensor: &Tensor) -> Array3<f32> {
    let size: Vec<usize> = tensor.size().iter().map(|&length| length as usize).collect();
    Array3::from_shape_vec([size[0], size[1], size[2]], Vec::try_from(tensor.flatten(0, -1)).unwrap()).unwrap()
}

fn candidate(name: &str, maps: Array3<f32>) -> Candidate {
    Candidate { name: name.into(), maps }
}

#[test]
fn areas_errors_and_correlations_are_numpys() {
    tch::manual_seed(11);
    let (images, maps) = (Tensor::randn([9, 3, 14, 14], CPU), Tensor::rand([9, 7, 7], CPU));
    let (weights, bias) = (Tensor::randn([3 * 14 * 14, 5], CPU) * 0.2, Tensor::randn([5], CPU));
    let grids = Heatmap { scale: MapScale::Raw, image_size: 7, ..Heatmap::default() };
    let random = Tensor::try_from(random_maps(9, 7, &grids, 42).unwrap()).unwrap();
    // Few different values, so that there are many ties.
    let (a, b) = (Tensor::randint(6, [20, 49], CPU), Tensor::randint(30, [20, 49], CPU));
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.safetensors", "out.safetensors"].map(|name| folder.path().join(name));
    let steps = Tensor::from_slice(&[5i64]);
    let given = [
        ("images", &images),
        ("maps", &maps),
        ("random", &random),
        ("weights", &weights),
        ("bias", &bias),
        ("steps", &steps),
        ("a", &a),
        ("b", &b),
    ];
    Tensor::write_safetensors(&given, &input).unwrap();
    common::reference("evidence.py", &[&input, &output]);
    let expected: HashMap<String, Tensor> = Tensor::read_safetensors(&output).unwrap().into_iter().collect();

    let model = |images: &Tensor| Ok(images.flatten(1, -1).matmul(&weights) + &bias);
    for (score, name) in [(Score::Probability, "probability"), (Score::Similarity, "similarity")] {
        let run = |batch| {
            let trial = Trial { steps: 5, score, batch, ..Trial::default() };
            compare(model, &images, &[candidate("maps", array(&maps))], &Target::Predicted, &trial, |_, _| ())
        };
        let ours = &run(400).unwrap()[0];
        for (field, estimate) in fields(ours) {
            let expected = &expected[&format!("{name}/{field}")];
            let apart = [estimate.mean, estimate.error.unwrap()];
            for (index, ours) in apart.into_iter().enumerate() {
                let expected = expected.double_value(&[index as i64]);
                assert!((ours - expected).abs() < 1e-6, "{name} {field}: {ours} {expected}");
            }
        }
        for (small, (field, estimate)) in fields(&run(4).unwrap()[0]).into_iter().zip(fields(ours)) {
            assert!((small.1.mean - estimate.mean).abs() < 1e-6, "{field} depends on the batch");
        }
    }
    let ours = rank_correlations(&array(&a.unsqueeze(1)), &array(&b.unsqueeze(1))).unwrap();
    for (index, ours) in ours.into_iter().enumerate() {
        let expected = expected["correlations"].double_value(&[index as i64]);
        assert!((ours.unwrap() - expected).abs() < 1e-12, "{ours:?} {expected}");
    }
}

fn fields(comparison: &Comparison) -> [(&'static str, Estimate); 5] {
    [
        ("deletion", comparison.deletion),
        ("insertion", comparison.insertion),
        ("deletion_against_random", comparison.deletion_against_random),
        ("insertion_against_random", comparison.insertion_against_random),
        ("score", comparison.score),
    ]
}

/// A model whose score is the brightest pixel.
fn brightest(images: &Tensor) -> Result<Tensor> {
    let brightest = images.amax([1i64, 2, 3].as_slice(), false);
    Ok(Tensor::stack(&[&(&brightest * 8.0 - 4.0), &brightest.zeros_like()], 1))
}

/// Eight images with one bright pixel: the first one in the half that chooses, the last one in the other half.
fn different_halves(seed: u64) -> (Tensor, [Vec<usize>; 2]) {
    let images = Tensor::zeros([8, 1, 2, 2], CPU);
    let halves = halves(8, seed);
    for (half, pixel) in halves.iter().zip([0, 1]) {
        for &image in half {
            let _ = images.get(image as i64).get(0).get(pixel).narrow(0, pixel, 1).fill_(1.0);
        }
    }
    (images, halves)
}

fn pixel_map(name: &str, pixel: usize) -> Candidate {
    candidate(name, Array3::from_shape_fn([8, 2, 2], |(_, y, x)| if 2 * y + x == pixel { 1.0 } else { 0.0 }))
}

#[test]
fn the_reporting_half_has_no_part_in_the_choice() {
    for seed in [1, 2, 42] {
        let (images, halves) = different_halves(seed);
        let trial = Trial { steps: 4, seed, ..Trial::default() };
        let candidates = [pixel_map("last", 3), pixel_map("first", 0)];
        let mut passes = (0, 0);
        let choice = choose(brightest, &images, &candidates, &candidates[..1], &trial, |done, total| {
            assert!(done > passes.0 && done <= total);
            passes = (done, total);
        })
        .unwrap();
        assert_eq!(passes.0, passes.1);
        assert_eq!(choice.halves, halves);
        let names: Vec<&str> = choice.reported.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["first", "last", "random order"]);
        // It is the best of the choosing half, and the worst of the other.
        assert_eq!(choice.best, 1);
        assert!(choice.tried[1].score.mean > choice.tried[0].score.mean + 0.2);
        let ahead = choice.tried[1].score.mean - choice.tried[0].score.mean;
        assert!((choice.tried_lead[0].mean - ahead).abs() < 1e-12 && choice.tried_lead[1].mean == 0.0);
        assert!(choice.reported[0].score.mean < choice.reported[1].score.mean - 0.2);
        assert!((choice.lead[1].mean - (choice.reported[0].score.mean - choice.reported[1].score.mean)).abs() < 1e-12);
        assert_eq!((choice.lead[0].mean, choice.tried.len()), (0.0, 3));
        // Only the other half enters the reported numbers.
        let indices: Vec<i64> = halves[1].iter().map(|&index| index as i64).collect();
        let other = images.index_select(0, &Tensor::from_slice(&indices));
        let maps = candidate("first", candidates[1].maps.select(Axis(0), &halves[1]));
        let alone = compare(brightest, &other, &[maps], &Target::Predicted, &trial, |_, _| ()).unwrap();
        assert_eq!(
            (alone[0].deletion, alone[0].insertion),
            (choice.reported[0].deletion, choice.reported[0].insertion)
        );
        // Other images in the other half change neither the choice nor what it was based on.
        let changed = images.copy();
        for &image in &halves[1] {
            let _ = changed.get(image as i64).fill_(0.3);
        }
        let again = choose(brightest, &changed, &candidates, &[], &trial, |_, _| ()).unwrap();
        assert_eq!((again.best, &again.tried), (1, &choice.tried));
    }
}

#[test]
fn random_orders_are_averaged() {
    let (images, _) = different_halves(42);
    let run = |orders, seed| {
        let trial = Trial { steps: 4, orders, seed, ..Trial::default() };
        let rows = compare(brightest, &images, &[pixel_map("first", 0)], &Target::Predicted, &trial, |done, total| {
            assert!(done <= total && total == 8 * (2 + 6 * (1 + orders)));
        });
        rows.unwrap()
    };
    let [both, first, second] = [run(2, 5), run(1, 5), run(1, 6)];
    assert_eq!(both.len(), 2);
    assert!(first[1].deletion != second[1].deletion, "two orders");
    for field in [|row: &Comparison| row.deletion.mean, |row: &Comparison| row.insertion.mean] {
        assert!((field(&both[1]) - (field(&first[1]) + field(&second[1])) / 2.0).abs() < 1e-12);
        assert_eq!(field(&both[0]), field(&first[0]));
    }
    let score = |rows: &[Comparison]| rows[0].score.mean;
    assert!((score(&both) - (score(&first) + score(&second)) / 2.0).abs() < 1e-12);
}

#[test]
fn halves_are_disjoint_and_drawn_by_the_seed() {
    for count in [4, 7, 1000] {
        let [first, second] = halves(count, 5);
        assert_eq!((first.len(), second.len()), (count / 2, count - count / 2));
        let mut all = [&first[..], &second].concat();
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>());
    }
    assert_ne!(halves(1000, 5), halves(1000, 6));
}

#[test]
fn bad_comparisons_are_sentences() {
    let (images, _) = different_halves(42);
    let trial = Trial { steps: 4, ..Trial::default() };
    let ask = |images: &Tensor, candidates: &[Candidate], trial: &Trial| {
        refusal(choose(brightest, images, candidates, &[], trial, |_, _| ()))
    };
    let first = pixel_map("first", 0);
    assert!(ask(&images.narrow(0, 0, 3), std::slice::from_ref(&first), &trial).contains("give at least four"));
    assert!(ask(&images, &[], &trial).contains("give at least one candidate"));
    let fewer = candidate("fewer", first.maps.select(Axis(0), &[0, 1, 2]));
    assert!(ask(&images, &[first.clone(), fewer], &trial).contains("fewer: its maps are [3, 2, 2]"));
    assert!(ask(&images, &[candidate("nan", first.maps.mapv(|_| f32::NAN))], &trial).contains("not finite"));
    assert!(ask(&images, std::slice::from_ref(&first), &Trial { steps: 5, ..trial.clone() }).contains("give 1 to 4"));
    let broken = |images: &Tensor| Ok(brightest(images)? * f64::NAN);
    let said = refusal(compare(broken, &images, &[first], &Target::Predicted, &trial, |_, _| ()));
    assert!(said.contains("the model's scores are not finite"), "{said}");
    assert!(refusal(rank_correlations(&Array3::zeros([1, 2, 2]), &Array3::zeros([1, 3, 3]))).contains("same images"));
    assert_eq!(rank_correlation(&[1.0, f32::NAN], &[1.0, 2.0]), None);
    assert_eq!(rank_correlation(&[-0.0, 0.0, 1.0], &[2.0, 2.0, 3.0]), Some(1.0));
}

/// A model with uneven attention, and images.
fn uneven() -> (Learner, Tensor) {
    tch::manual_seed(7);
    let config = Config { embed_dim: 32, n_layers: 3, dropout: 0.0, ..Config::default() };
    let model = VisionTransformer::new(&config, Device::Cpu).unwrap();
    tch::no_grad(|| {
        for mut variable in model.variables().trainable_variables() {
            let _ = variable.g_add_(&(variable.randn_like() * 0.2));
        }
    });
    (Learner::new(model), Tensor::randn([10, 1, 28, 28], CPU))
}

#[test]
fn a_learner_chooses_among_its_rollouts() {
    let (learner, images) = uneven();
    let grid = RolloutGrid { discard_ratios: vec![0.0, 0.8], ..RolloutGrid::default() };
    let trial = Trial { steps: 6, ..Trial::default() };
    let chosen = learner.choose(&images, &grid, Query::Class, &trial, |_, _| ()).unwrap();
    // All, two halves and three thirds of three layers: the first half is the first third.
    assert_eq!(chosen.rollouts.len(), 3 * 2 * 5);
    assert_eq!(chosen.rollout, chosen.rollouts[chosen.choice.best]);
    let best = chosen.choice.tried[..30].iter().map(|row| row.score.mean).fold(f64::MIN, f64::max);
    assert_eq!(chosen.choice.tried[chosen.choice.best].score.mean, best);
    assert_eq!(chosen.choice.reported.len(), 2 + Learner::reference_methods().len());

    // Each is what explain gives, measured on the half.
    let of_half = |method: &Method, half: &[usize]| {
        let indices: Vec<i64> = half.iter().map(|&index| index as i64).collect();
        let images = images.index_select(0, &Tensor::from_slice(&indices));
        let maps = learner.explain(&images, method, &Heatmap::default(), |_| ()).unwrap().grids;
        let candidate = [candidate("alone", maps)];
        learner.compare(&images, &candidate, &Target::Predicted, &trial, |_, _| ()).unwrap().remove(0)
    };
    let close = |a: &Comparison, b: &Comparison| {
        // Rounding decides between pixels of equal importance.
        assert!((a.deletion.mean - b.deletion.mean).abs() < 1e-3, "{a:?} {b:?}");
        assert!((a.insertion.mean - b.insertion.mean).abs() < 1e-3, "{a:?} {b:?}");
    };
    let [choosing, reporting] = &chosen.choice.halves;
    for (rollout, row) in chosen.rollouts.iter().zip(&chosen.choice.tried).step_by(7) {
        close(row, &of_half(&Method::Rollout(rollout.clone()), choosing));
    }
    for ((name, method), row) in Learner::reference_methods().iter().zip(&chosen.choice.reported[1..]) {
        assert_eq!(*name, row.name);
        close(row, &of_half(method, reporting));
    }
}

#[test]
fn a_model_without_a_class_head_is_followed_by_similarity() {
    tch::manual_seed(8);
    let config = Config { embed_dim: 32, n_layers: 2, dropout: 0.0, ..Config::default() };
    let structure = Structure { head: Head::None, ..Structure::default() };
    let sizes = ViTConfig { structure, n_classes: 32, ..ViTConfig::from(&config) };
    let learner = Learner::new(VisionTransformer::with_sizes(sizes, Device::Cpu));
    assert_eq!(learner.faithfulness_score(), Score::Similarity);
    let images = Tensor::randn([3, 1, 28, 28], CPU);
    let trial = Trial { steps: 2, ..Trial::default() };
    let maps = candidate("random", random_maps(3, 7, &Heatmap { image_size: 7, ..Heatmap::default() }, 1).unwrap());
    let compared = learner.compare(&images, &[maps], &Target::Predicted, &trial, |_, _| ()).unwrap();
    // The trial's score is replaced: the first point of each deletion curve is the similarity of an image with itself, 1.
    let features = |images: &Tensor| learner.predict(images).unwrap();
    let baseline = images.mean_dim([2i64, 3].as_slice(), true, None).expand_as(&images).contiguous();
    let last = Tensor::cosine_similarity(&features(&images), &features(&baseline), 1, 1e-12).mean(Kind::Double);
    let ends = (1.0 + last.double_value(&[])) / 4.0;
    // The middle of each curve is at most 1, with a weight of a half.
    assert!(compared[0].deletion.mean <= ends + 0.5 + 1e-9 && compared[0].deletion.mean > ends - 0.5);
    assert!(ends > 0.25, "{ends}");
}

#[test]
fn randomised_models_are_compared_stage_by_stage() {
    let (learner, images) = uneven();
    let before: Vec<Tensor> = learner.variables().trainable_variables().iter().map(Tensor::copy).collect();
    let rollout = Method::Rollout(Rollout { fusion: Fusion::Max, layers: Layers::All, ..Rollout::default() });
    let methods = [("rollout".to_string(), rollout.clone()), ("relevance".to_string(), Method::Relevance(None))];
    let sanity = learner.sanity(&images, &methods, Query::Class, 3, |_, _| ()).unwrap();
    let stages = ["another image", "head and last norm", "layer 2", "layer 1", "layer 0", "embedding: untrained"];
    assert_eq!(sanity.stages, stages);
    assert!(learner.variables().trainable_variables().iter().zip(&before).all(|(after, before)| after == before));
    let correlation = |stage: usize, method: usize| sanity.agreement[stage][method].correlation.unwrap().mean;
    // A rollout doesn't see the head.
    assert!((correlation(1, 0) - 1.0).abs() < 1e-6);
    assert!(correlation(2, 0) < 0.9999);

    // Models made by hand: an untrained one, and the model with the head of that one.
    tch::manual_seed(3);
    let sizes = &learner.vit().unwrap().config;
    let untrained = Learner::new(VisionTransformer::with_sizes(sizes.clone(), Device::Cpu));
    let other_head = VisionTransformer::with_sizes(sizes.clone(), Device::Cpu);
    let (trained, fresh) = (learner.variables().variables(), untrained.variables().variables());
    tch::no_grad(|| {
        for (name, mut variable) in other_head.variables().variables() {
            let from = if name.starts_with("classifier") || name.starts_with("norm.") { &fresh } else { &trained };
            variable.copy_(&from[&name]);
        }
    });
    let other_head = Learner::new(other_head);
    let maps = |learner: &Learner, method: &Method, images: &Tensor| {
        learner.explain(images, method, &Heatmap::default(), |_| ()).unwrap().grids
    };
    let mean = |a: &Array3<f32>, b: &Array3<f32>| {
        let values: Vec<f64> = rank_correlations(a, b).unwrap().into_iter().flatten().collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let own = maps(&learner, &rollout, &images);
    assert!((correlation(5, 0) - mean(&own, &maps(&untrained, &rollout, &images))).abs() < 1e-3);
    let next = own.select(Axis(0), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    assert!((correlation(0, 0) - mean(&own, &next)).abs() < 1e-3);
    // Relevance explains the class that the unchanged model predicts.
    let classes = Vec::<i64>::try_from(learner.predict(&images).unwrap().argmax(1, false)).unwrap();
    let of_classes = |learner: &Learner| {
        let maps = classes.iter().enumerate().map(|(i, &class)| {
            maps(learner, &Method::Relevance(Some(class)), &images.narrow(0, i as i64, 1)).index_axis_move(Axis(0), 0)
        });
        let maps: Vec<_> = maps.collect();
        ndarray::stack(Axis(0), &maps.iter().map(|map| map.view()).collect::<Vec<_>>()).unwrap()
    };
    assert!((correlation(1, 1) - mean(&of_classes(&learner), &of_classes(&other_head))).abs() < 1e-3);
}
