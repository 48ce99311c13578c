//! Every method of explaining, on a small checkpoint of every layout, compared with NumPy and PyTorch's autograd.
//!
//! `tests/reference/methods.py` wrote the files in `tests/methods`, from those in `tests/layouts`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{Axis, s};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use vitlab::checkpoint::{Checkpoint, read_safetensors};
use vitlab::explain::{GAMMA, Heatmap, MapScale, Query, Rollout, Target, attn_lrp, grad_cam};
use vitlab::learner::{Learner, Method, Network, ReadOptions};
use vitlab::model::VisionTransformer;
use vitlab::{Config, Result};

const CASES: [&str; 17] = [
    "homework_vit",
    "homework_deit",
    "timm",
    "timm_registers",
    "timm_rows",
    "timm_patches",
    "timm_deit",
    "dinov2",
    "dinov2_registers",
    "vit",
    "deit",
    "deit_teacher",
    "dinov2_classifier",
    "dinov2_features",
    "torchvision",
    "torchvision_two_layers",
    "google",
];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn read(path: PathBuf) -> BTreeMap<String, Tensor> {
    read_safetensors(path).expect("the file is committed").0.0.into_iter().collect()
}

thread_local! {
    static EXPECTED: BTreeMap<String, Tensor> = read(tests().join("methods/expected.safetensors"));
}

fn expected(name: &str) -> Tensor {
    EXPECTED.with(|tensors| tensors.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_kind(Kind::Double))
}

/// A case's model, and its images.
fn learner(name: &str) -> Result<(Learner, Tensor)> {
    let homework = name.starts_with("homework");
    let path = tests().join(if homework { "methods" } else { "layouts" }).join(format!("{name}.safetensors"));
    let (tensors, _) = read_safetensors(&path)?;
    let beside: Value = match std::fs::read_to_string(path.with_extension("json")) {
        Ok(text) => serde_json::from_str(&text).expect("JSON"),
        Err(_) => serde_json::json!({ "heads": 2 }),
    };
    let part = |name: &str| beside.get(name).filter(|value| !value.is_null()).cloned();
    let (config, preprocessor) = (part("config"), part("preprocessor"));
    let checkpoint = Checkpoint { tensors, config, preprocessor, path, ..Checkpoint::default() };
    let options = ReadOptions { heads: beside["heads"].as_i64(), ..ReadOptions::default() };
    let images = match homework {
        true => expected("images/homework"),
        false => read(tests().join("layouts/expected.safetensors"))["images/16"].shallow_clone(),
    };
    Ok((Learner::from_checkpoint(checkpoint, &options, Device::Cpu)?, images.to_kind(Kind::Float)))
}

/// The token whose row the reference gives: a model without a class token is asked for its first patch.
fn query(name: &str) -> Query {
    if name == "timm_patches" { Query::Token(4) } else { Query::Class }
}

/// A method's values of the patches, [B, 4, 4], before they are upsampled.
fn grids((learner, images): &(Learner, Tensor), query: Query, method: &Method) -> Result<Tensor> {
    let heatmap = Heatmap { query, scale: MapScale::Raw, ..Heatmap::default() };
    let explanation = learner.explain(images, method, &heatmap, |_| {})?;
    assert_eq!(explanation.maps.dim(), (2, 16, 16));
    Ok(Tensor::try_from(explanation.grids)?.to_kind(Kind::Double))
}

/// The patches' part of rows [B, S], as [B, 4, 4].
fn patches(rows: &Tensor) -> Tensor {
    rows.narrow(1, rows.size()[1] - 16, 16).reshape([-1, 4, 4])
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.abs().max().double_value(&[])
}

/// Checks that the greatest difference is at most `tolerance`, as a share of the greatest value.
fn check(name: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size(), "{name}");
    let (apart, scale) = (largest(&(ours - theirs)), largest(theirs));
    assert!(apart <= tolerance * scale, "{name}: {apart:e} apart of {scale:e}");
}

/// Checks shares of a row's sum of 1: none differs by more than a millionth.
fn check_shares(name: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.size(), theirs.size(), "{name}");
    let apart = largest(&(ours - theirs));
    assert!(apart <= 1e-6 && largest(theirs) > 0.01, "{name}: {apart:e} apart");
}

fn target(learner: &Learner, name: &str) -> Target {
    match name {
        "1" => Target::Class(1),
        _ if learner.has_class_head() => Target::Predicted,
        _ => Target::Features,
    }
}

#[test]
fn rollout_and_attention_of_every_layout_are_the_reference() -> Result<()> {
    for name in CASES {
        let (model, query) = (learner(name)?, query(name));
        for ratio in ["0.0", "0.5"] {
            let options = Rollout { discard_ratio: ratio.parse().expect("a number"), ..Rollout::default() };
            let theirs = patches(&expected(&format!("{name}/rollout/{ratio}")));
            check_shares(
                &format!("{name} rollout {ratio}"),
                &grids(&model, query, &Method::Rollout(options))?,
                &theirs,
            );
        }
        let theirs = expected(&format!("{name}/attention")); // [B, L, H, S]
        for layer in 0..2 {
            let of_layer = theirs.select(1, layer);
            for head in 0..2 {
                let method = Method::Attention { layer: Some(layer as usize), head: Some(head as usize) };
                let row = patches(&of_layer.select(1, head));
                check_shares(&format!("{name} layer {layer}, head {head}"), &grids(&model, query, &method)?, &row);
            }
        }
        let mean = patches(&theirs.select(1, 1).mean_dim([1i64].as_slice(), false, None));
        check_shares(name, &grids(&model, query, &Method::Attention { layer: None, head: None })?, &mean);
    }
    Ok(())
}

#[test]
fn gradient_methods_of_every_layout_are_the_reference() -> Result<()> {
    for name in CASES {
        let (model, query) = (learner(name)?, query(name));
        for (target, class) in [("predicted", None), ("1", Some(1))] {
            for (key, method) in [
                ("relevance", Method::Relevance(class)),
                ("grad_rollout", Method::GradientRollout(Rollout::default(), class)),
                ("grad_cam", Method::GradCam(class)),
                ("attn_lrp", Method::AttnLrp(class)),
            ] {
                let theirs = patches(&expected(&format!("{name}/{target}/{key}")));
                check(&format!("{name}/{target}/{key}"), &grids(&model, query, &method)?, &theirs, 1e-5);
            }
        }
    }
    Ok(())
}

/// The score is the sum of the tokens' relevance and of what biases and softmax absorb, each as NumPy has it.
#[test]
fn relevance_is_conserved_in_every_layout() -> Result<()> {
    for name in CASES {
        let (learner, images) = learner(name)?;
        for key in ["predicted", "1"] {
            let parts = learner.network().parts()?;
            for (method, gamma) in [("attn_lrp", GAMMA), ("epsilon", 0.0)] {
                let case = format!("{name}/{key}/{method}");
                let relevances = attn_lrp(parts, &images, &target(&learner, key), gamma)?;
                let tokens = relevances.tokens.sum_dim_intlist([1i64].as_slice(), false, None);
                let sum = tokens + &relevances.biases + &relevances.softmax;
                check(&case, &sum, &relevances.scores, 1e-5);
                let absorbed = Tensor::stack(&[&relevances.biases, &relevances.softmax], 1);
                check(&case, &relevances.tokens, &expected(&case), 1e-5);
                check(&case, &absorbed, &expected(&format!("{case}/absorbed")), 1e-5);
                let logits = learner.attention(&images)?.0;
                check(&case, &relevances.logits, &logits, 1e-5);
                let scores = target(&learner, key).scores(&logits)?.to_kind(Kind::Double);
                check(&case, &relevances.scores, &scores, 1e-5);
            }
        }
    }
    Ok(())
}

/// The trained model of the homework and images of clothing: six layers, biases of real size.
#[test]
fn relevance_is_conserved_in_a_trained_model() -> Result<()> {
    let learner = Learner::read(tests().join("../models/ViT_model.pt"), Device::Cpu)?;
    let data = vitlab::data::Dataset::read(&vitlab::data::Source::Synthetic, vitlab::data::Split::Test, Device::Cpu)?;
    let images = learner.preprocessing().input(&data.images.narrow(0, 0, 8))?;
    let relevances = attn_lrp(learner.network().parts()?, &images, &Target::Predicted, GAMMA)?;
    let tokens = relevances.tokens.sum_dim_intlist([1i64].as_slice(), false, None);
    check("trained", &(tokens + &relevances.biases + &relevances.softmax), &relevances.scores, 1e-5);
    Ok(())
}

#[test]
fn maps_of_all_heads_are_those_of_each() -> Result<()> {
    for name in ["homework_deit", "dinov2_registers", "timm_patches"] {
        let (learner, images) = learner(name)?;
        let heatmap = Heatmap { query: query(name), ..Heatmap::default() };
        for layer in [None, Some(0)] {
            let mut last = 0;
            let all = learner.explain_heads(&images, layer, &heatmap, |done| last = done)?;
            assert_eq!((last, all.maps.dim(), all.grids.dim()), (2, (2, 2, 16, 16), (2, 2, 4, 4)));
            for head in 0..2 {
                let method = Method::Attention { layer, head: Some(head) };
                let one = learner.explain(&images, &method, &heatmap, |_| {})?;
                assert_eq!(all.maps.index_axis(Axis(1), head), one.maps);
                assert_eq!(all.grids.index_axis(Axis(1), head), one.grids);
            }
            let bytes = learner.preprocessing().bytes(&images);
            let grid = all.grid("Heads", &bytes, heatmap.scale)?;
            assert_eq!((grid.columns, grid.tiles.len()), (3, 6));
            assert_eq!([&grid.tiles[1].caption, &grid.tiles[5].caption], ["head 0", "head 1"]);
            assert!(all.grid("Heads", &bytes.narrow(0, 0, 1), heatmap.scale).is_err());
        }
    }
    Ok(())
}

/// A map of a negative value has no colour, so that it can't be taken for a positive one.
#[test]
fn negative_relevance_has_no_color() -> Result<()> {
    let (learner, images) = learner("vit")?;
    let heatmap = Heatmap::default();
    let explanation = learner.explain(&images, &Method::AttnLrp(None), &heatmap, |_| {})?;
    assert!(explanation.grids.iter().any(|&value| value < 0.0) && explanation.grids.iter().any(|&value| value > 0.0));
    let grid = explanation.grid("AttnLRP", &learner.preprocessing().bytes(&images), None, heatmap.scale)?;
    let overlay = grid.tiles[1].overlay.as_ref().expect("the map");
    assert_eq!(overlay.scale.low, 0.0);
    Ok(())
}

/// One of a model's images doesn't change another's map, and a call inside of no_grad has its gradients, too.
#[test]
fn an_image_is_explained_alone() -> Result<()> {
    for name in ["homework_vit", "dinov2_features"] {
        let (learner, images) = learner(name)?;
        for method in [Method::GradCam(None), Method::AttnLrp(None)] {
            let explain = |images: &Tensor| learner.explain(images, &method, &Heatmap::default(), |_| {});
            let (all, second) = (explain(&images)?, tch::no_grad(|| explain(&images.narrow(0, 1, 1)))?);
            let apart = (&all.maps.slice(s![1.., .., ..]) - &second.maps).mapv(f32::abs);
            assert!(apart.iter().all(|&apart| apart < 1e-5), "{name} {method:?}");
        }
    }
    Ok(())
}

#[test]
fn a_model_without_classes_is_explained_by_its_features() -> Result<()> {
    let (learner, images) = learner("dinov2")?;
    assert!(!learner.has_class_head());
    let heatmap = Heatmap::default();
    let explanation = learner.explain(&images, &Method::Relevance(None), &heatmap, |_| {})?;
    // There is no class to name.
    assert!(explanation.classes.iter().all(String::is_empty));
    let grid = explanation.grid("Features", &learner.preprocessing().bytes(&images), None, heatmap.scale)?;
    assert!(grid.tiles.iter().all(|tile| tile.caption.is_empty()));
    // A single feature's score, by its number.
    assert!(learner.explain(&images, &Method::Relevance(Some(15)), &heatmap, |_| {}).is_ok());
    Ok(())
}

#[test]
fn bad_arguments_are_named() -> Result<()> {
    fn refusal<T>(result: Result<T>) -> String {
        let message = result.err().expect("refused").to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }
    let (learner, images) = learner("vit")?;
    let ask = |method| refusal(learner.explain(&images, &method, &Heatmap::default(), |_| {}));
    let attention = |layer, head| ask(Method::Attention { layer, head });
    assert_eq!(attention(Some(2), None), "layer 2: this model has 2 layers, 0 to 1");
    assert_eq!(attention(None, Some(2)), "head 2: this model has 2 heads, 0 to 1");
    assert_eq!(attention(None, Some(usize::MAX)), format!("head {}: this model has 2 heads, 0 to 1", usize::MAX));
    for method in [Method::GradCam(Some(5)), Method::AttnLrp(Some(-1)), Method::Relevance(Some(5))] {
        assert!(ask(method).contains("this model has 5 classes, 0 to 4"));
    }
    let small = images.narrow(2, 0, 12).narrow(3, 0, 12);
    for method in [Method::GradCam(None), Method::AttnLrp(None), Method::Attention { layer: None, head: None }] {
        let message = refusal(learner.explain(&small, &method, &Heatmap::default(), |_| {}));
        assert!(message.contains("the model needs [N, 3, 16, 16]"), "{message}");
    }
    let message = refusal(attn_lrp(learner.network().parts()?, &small, &Target::Predicted, GAMMA));
    assert!(message.contains("this model needs [B, 3, 16, 16]"), "{message}");
    let refused =
        |query| refusal(learner.explain_heads(&images, None, &Heatmap { query, ..Heatmap::default() }, |_| {}));
    assert!(refused(Query::Distillation).contains("there is no distillation token"));
    assert!(refused(Query::Token(17)).contains("this model has 17 tokens, 0 to 16"));

    let cnn = Learner::create(vitlab::learner::ModelKind::Cnn, &Config::default(), Device::Cpu)?;
    let clothing = Tensor::zeros([1, 1, 28, 28], (Kind::Float, Device::Cpu));
    for method in [Method::GradCam(None), Method::AttnLrp(None), Method::Attention { layer: None, head: None }] {
        let message = refusal(cnn.explain(&clothing, &method, &Heatmap::default(), |_| {}));
        assert!(message.contains("a CNN has no attention"), "{message}");
    }

    let tokens = Tensor::randn([2, 5, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let logits = tokens.sum_dim_intlist([1i64].as_slice(), false, None); // [B, S, E] -> [B, 3]
    let ask = |logits: &Tensor, tokens: &Tensor, prefix| refusal(grad_cam(logits, tokens, &Target::Predicted, prefix));
    assert!(ask(&logits, &tokens, 5).contains("give [2, S, E] with patches behind the 5 prefix tokens"));
    assert!(ask(&logits, &tokens, -1).contains("give [2, S, E]"));
    assert!(ask(&logits, &tokens.get(0), 1).contains("give [2, S, E]"));
    assert!(ask(&logits.detach(), &tokens, 1).contains("carry no graph"));
    assert!(ask(&logits, &tokens.detach(), 1).contains("carry no graph"));
    assert!(ask(&logits, &tokens.detach().copy().set_requires_grad(true), 1).contains("don't depend on them"));
    assert!(refusal(Target::Features.scores(&logits.get(0))).contains("give [B, classes]"));
    Ok(())
}

/// The gradients of a model's own weights stay untouched, and so does the way it trains.
#[test]
fn explaining_leaves_no_gradients_behind() -> Result<()> {
    let config = Config { n_layers: 2, ..Config::default() };
    let learner = Learner::new(VisionTransformer::new(&config, Device::Cpu)?);
    let images = Tensor::randn([2, 1, 28, 28], (Kind::Float, Device::Cpu));
    for method in [Method::GradCam(None), Method::AttnLrp(Some(3)), Method::Relevance(None)] {
        learner.explain(&images, &method, &Heatmap::default(), |_| {})?;
    }
    let Network::Vit(model) = learner.network() else { panic!("a ViT") };
    assert!(!model.embedding.cls_token.grad().defined() && model.embedding.cls_token.requires_grad());
    assert!(!model.norm.ws.as_ref().expect("weights").grad().defined());
    Ok(())
}
