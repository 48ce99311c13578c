//! Gradient methods, compared with PyTorch's autograd.

use crate::{common, largest_difference, reference, refusal, softmax_attention};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use vitlab::data::FashionMnist;
use vitlab::explain::{Rollout, Target, gradient_attention, relevance, rollout};
use vitlab::model::{Model, VisionTransformer};
use vitlab::{Config, Result};

/// The network of gradients.py on a batch: logits and the attention of each layer, with their graph.
fn network(weights: &HashMap<String, Tensor>, kind: Kind) -> (Tensor, Vec<Tensor>) {
    let weight = |name: &str| weights[name].to_kind(kind).set_requires_grad(true);
    let mut x = weights["input"].to_kind(kind);
    let (images, tokens, embed) = x.size3().unwrap();
    let mut attentions = vec![];
    for layer in 0..4 {
        let split = |name: &str| {
            let projected = x.matmul(&weight(&format!("{layer}/{name}")));
            projected.reshape([images, tokens, 3, embed / 3]).transpose(1, 2) // [B, S, E] -> [B, H, S, E/H]
        };
        let attention = split("queries").matmul(&split("keys").transpose(2, 3)).softmax(-1, kind);
        let mixed = attention.matmul(&split("values")).transpose(1, 2).reshape([images, tokens, embed]);
        x = &x + mixed.tanh();
        attentions.push(attention);
    }
    (x.select(1, 0).matmul(&weight("head")), attentions)
}

#[test]
fn gradient_methods_equal_autograd_for_any_class_from_one_forward_pass() {
    let reference = reference("gradients.py");
    let classes = Vec::<i64>::try_from(&reference["classes"]).unwrap();
    let targets = [("predicted", Target::Predicted), ("class", Target::Class(2)), ("image", Target::PerImage(classes))];
    for (kind, tolerance) in [(Kind::Double, 1e-10), (Kind::Float, 1e-5)] {
        let (logits, attentions) = network(&reference, kind);
        assert!(largest_difference(&logits, &reference["logits"]) < tolerance);
        for (name, target) in &targets {
            let weighted = gradient_attention(&logits, &attentions, target).unwrap();
            let close = |ours: &Tensor, key: &str| {
                let expected = &reference[&format!("{name}/{key}")];
                let relative = largest_difference(ours, expected) / expected.abs().max().double_value(&[]);
                assert!(relative <= tolerance, "{kind:?} {name}/{key}: {relative:e}");
            };
            close(&relevance(&weighted).unwrap(), "relevance");
            for ratio in [0.0, 0.5, 0.9] {
                let options = Rollout { discard_ratio: ratio, ..Rollout::default() };
                close(&rollout(&weighted, &options).unwrap(), &format!("rollout/{ratio}"));
            }
        }
    }
}

#[test]
fn gradient_methods_on_the_vit_and_real_images_equal_pytorch() -> Result<()> {
    let config = Config { test_images: Some(8), dropout: 0.0, ..Config::default() };
    let data = FashionMnist::load(&config, Device::Cpu)?.test;
    let images = data.normalised(&Tensor::arange(8, (Kind::Int64, Device::Cpu)));
    let model = VisionTransformer::new(&config, Device::Cpu)?;
    // Noise makes the attention uneven, which it isn't with initial weights.
    tch::no_grad(|| {
        for mut variable in model.variables().trainable_variables() {
            let _ = variable.g_add_(&(variable.randn_like() * 0.1));
        }
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    model.variables().save(path("weights.safetensors"))?;
    let batch = [("images", &images), ("classes", &data.labels)];
    Tensor::write_safetensors(&batch, path("batch.safetensors"))?;
    common::reference("gradients_vit.py", &[folder.path()]);
    let expected: HashMap<_, _> = Tensor::read_safetensors(path("expected.safetensors"))?.into_iter().collect();

    let (logits, attentions) = model.forward_layers(&images, false)?;
    let target = Target::PerImage(Vec::try_from(&data.labels)?);
    let weighted = gradient_attention(&logits, &attentions, &target)?;
    let results = [("relevance", relevance(&weighted)?), ("rollout/0", rollout(&weighted, &Rollout::default())?)];
    for (name, ours) in results {
        // Only over the patches: the identity dominates the class token's own entry.
        let patches = |t: &Tensor| t.select(1, 0).narrow(1, 1, 49);
        let scale = patches(&expected[name]).abs().max().double_value(&[]);
        let relative = largest_difference(&patches(&ours), &patches(&expected[name])) / scale;
        assert!(relative <= 1e-5, "{name}: {relative:e}");
    }
    Ok(())
}

#[test]
fn bad_gradient_arguments_are_named() {
    let attention = softmax_attention([2, 1, 2, 5, 5]).select(1, 0).set_requires_grad(true);
    let logits = attention.sum_dim_intlist([1i64, 2].as_slice(), false, None); // [2, 5]
    let ask = |logits: &Tensor, attentions: &[&Tensor], target| {
        let attentions: Vec<Tensor> = attentions.iter().map(|a| a.shallow_clone()).collect();
        refusal(gradient_attention(logits, &attentions, &target))
    };
    assert!(ask(&logits, &[&attention], Target::Class(5)).contains("this model has 5 classes, 0 to 4"));
    assert!(ask(&logits, &[&attention], Target::PerImage(vec![1])).contains("1 classes for 2 images"));
    assert!(ask(&logits.detach(), &[&attention], Target::Predicted).contains("no graph"));
    assert!(ask(&logits, &[&attention.detach()], Target::Predicted).contains("no graph"));
    assert!(ask(&logits, &[], Target::Predicted).contains("one tensor [2, H, S, S] per layer"));
    assert!(ask(&logits, &[&attention.get(0)], Target::Predicted).contains("one tensor [2, H, S, S] per layer"));
    let unrelated = attention.detach().copy().set_requires_grad(true);
    assert!(ask(&logits, &[&attention, &unrelated], Target::Predicted).contains("don't depend on them"));
}
