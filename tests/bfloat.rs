//! Predictions and rollouts in bfloat16 against an emulation: the models' layers, with the operands of each product rounded
//! by libtorch.

use tch::nn::{Linear, Module};
use tch::{Device, Kind, Tensor, no_grad};
use vitlab::config::Precision;
use vitlab::data::{FashionMnist, normalise, seed_everything};
use vitlab::explain::{Fusion, Heatmap, Query, Rollout, rollout, row};
use vitlab::learner::fused::{CpuLevel, Fused};
use vitlab::learner::{Learner, Loss, ModelKind};
use vitlab::model::{Encoder, Model, MyDeiT, ViTConfig, VisionTransformer};
use vitlab::{Config, Error, Result, checkpoint};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");

/// None if this CPU has no bfloat16 instructions; prints the reason.
fn in_bfloat16(fused: Result<Fused>) -> Result<Option<Fused>> {
    match fused?.with_precision(Precision::Bfloat16) {
        Ok(fused) => Ok(Some(fused)),
        Err(error @ Error::Input(_)) if error.to_string().contains("AVX512-BF16") => {
            eprintln!("not tested: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn committed_vit() -> Result<VisionTransformer> {
    let path = format!("{MODELS}/ViT_model.pt");
    let model = VisionTransformer::new(&Config::default(), Device::Cpu)?;
    checkpoint::assign(model.variables(), &checkpoint::read(&path)?, path.as_ref())?;
    Ok(model)
}

/// The first test images.
fn images(n: i64) -> Result<Tensor> {
    let config = Config { test_images: Some(n), ..Config::default() };
    Ok(normalise(&FashionMnist::load(&config, Device::Cpu)?.test.images))
}

fn rounded(x: &Tensor) -> Tensor {
    x.to_kind(Kind::BFloat16).to_kind(Kind::Float)
}

/// A linear layer on a rounded input, with rounded weights.
fn layer(x: &Tensor, layer: &Linear) -> Tensor {
    x.linear(&rounded(&layer.ws), layer.bs.as_ref())
}

/// Logits and attention, L × [B, H, S, S].
fn emulated(vit: &VisionTransformer, images: &Tensor) -> (Tensor, Vec<Tensor>) {
    let mut x = vit.embedding.forward(images, false);
    let (batch, tokens, e) = x.size3().expect("tokens are [B, S, E]");
    let heads = vit.config.n_attention_heads;
    let split = |t: Tensor| t.view([batch, tokens, heads, e / heads]).transpose(1, 2);
    let mut maps = Vec::new();
    for Encoder { norm1, attention: part, norm2, fc1, fc2, .. } in &vit.encoder {
        let normed = rounded(&norm1.forward(&x));
        let q = split(rounded(&layer(&normed, &part.queries)));
        let k = split(rounded(&layer(&normed, &part.keys)));
        let v = split(rounded(&layer(&normed, &part.values)));
        let scores = q.matmul(&k.transpose(-2, -1)) / ((e / heads) as f64).sqrt();
        let attention = scores.softmax(-1, Kind::Float);
        let mixed = rounded(&attention).matmul(&v).transpose(1, 2).reshape([batch, tokens, e]);
        x += layer(&rounded(&mixed), &part.out_projection);
        let normed = rounded(&norm2.forward(&x));
        let hidden = rounded(&layer(&normed, fc1).gelu("none"));
        x += layer(&hidden, fc2);
        maps.push(attention);
    }
    (vit.classifier.forward(&vit.norm.forward(&x)), maps)
}

/// Mean absolute difference, divided by the mean absolute value.
fn apart(ours: &Tensor, expected: &Tensor) -> f64 {
    let mean = |x: Tensor| x.abs().mean(Kind::Double).double_value(&[]);
    mean(ours - expected) / mean(expected.shallow_clone())
}

/// Asserts that the engine agrees with the emulation. With one layer it is nearer to the emulation than float32 is. With
/// more layers, different orders of summation round differently, and both differ by the precision of bfloat16.
fn assert_emulated(ours: &Tensor, expected: &Tensor, float32: &Tensor, layers: usize, what: &str) {
    let (ours, float32) = (apart(ours, expected), apart(float32, expected));
    eprintln!("{what}, {layers} layers: {ours:.2e} from the emulation, float32 {float32:.2e}");
    let bound = if layers == 1 { 0.5 * float32 } else { 1.5 * float32 };
    assert!(ours < bound && ours < 0.01, "{what}: {ours:e}, float32 {float32:e}");
}

#[test]
fn predictions_and_rollouts_equal_the_emulation() -> Result<()> {
    let images = images(64)?;
    let small = ViTConfig { embed_dim: 96, n_attention_heads: 3, n_layers: 1, ..ViTConfig::from(&Config::default()) };
    seed_everything(3);
    let small = VisionTransformer::with_sizes(small, Device::Cpu);
    no_grad(|| {
        for mut variable in small.variables().trainable_variables() {
            let _ = variable.g_add_(&(variable.randn_like() * 0.1));
        }
    });
    let cases = [(committed_vit()?, "the committed ViT"), (small, "width 96")];
    for (vit, name) in cases {
        let layers = vit.encoder.len();
        let mut float32 = Fused::vit(&vit)?;
        let Some(mut fused) = in_bfloat16(Fused::vit(&vit))? else {
            return Ok(());
        };
        let (logits, attention) = no_grad(|| emulated(&vit, &images));
        let exact = float32.predict(&images)?;
        assert_emulated(&fused.predict(&images)?, &logits, &exact, layers, name);
        let attention = Tensor::stack(&attention, 1);
        for (fusion, discard_ratio) in [(Fusion::Mean, 0.0), (Fusion::Max, 0.9), (Fusion::Min, 0.5)] {
            let options = Rollout { fusion, discard_ratio, ..Rollout::default() };
            let matrix = rollout(&attention, &options)?;
            for query in [Query::Class, Query::Token(30)] {
                let expected = row(&matrix, query, 1)?;
                let (rows, ours) = fused.rollout(&images, &options, query)?;
                let (exact_rows, _) = float32.rollout(&images, &options, query)?;
                assert_emulated(&rows, &expected, &exact_rows, layers, &format!("{name}, {fusion}, token {query}"));
                assert_emulated(&ours, &logits, &exact, layers, name);
                let sums = rows.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
                assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5);
            }
        }
    }
    Ok(())
}

/// The powers of these scores overflow float32 unless the largest score is subtracted first.
#[test]
fn large_scores_are_no_trouble() -> Result<()> {
    let (vit, images) = (committed_vit()?, images(16)?);
    no_grad(|| {
        for (name, mut variable) in vit.variables().variables() {
            if name.contains("encoder.2.attention.queries") {
                let _ = variable.g_mul_scalar_(60.0);
            }
        }
    });
    let Some(mut fused) = in_bfloat16(Fused::vit(&vit))? else {
        return Ok(());
    };
    let (logits, attention) = no_grad(|| emulated(&vit, &images));
    let largest = attention[2].max().double_value(&[]);
    assert!(largest > 0.999, "one score should be far above the others: {largest}");
    assert_emulated(&fused.predict(&images)?, &logits, &Fused::vit(&vit)?.predict(&images)?, 6, "large scores");
    let (rows, _) = fused.rollout(&images, &Rollout::default(), Query::Class)?;
    let matrix = rollout(&Tensor::stack(&attention, 1), &Rollout::default())?;
    assert!(apart(&rows, &row(&matrix, Query::Class, 1)?) < 0.02);
    Ok(())
}

/// Classes, accuracy and heatmaps of all test images change little in bfloat16.
#[test]
fn the_test_set_looks_the_same() -> Result<()> {
    let vit = committed_vit()?;
    let data = FashionMnist::load(&Config::default(), Device::Cpu)?.test;
    let images = normalise(&data.images);
    let options = Rollout { fusion: Fusion::Max, discard_ratio: 0.9, ..Rollout::default() };
    let Some(mut fused) = in_bfloat16(Fused::vit(&vit))? else {
        return Ok(());
    };
    let (rows, logits) = fused.rollout(&images, &options, Query::Class)?;
    let (exact_rows, exact) = Fused::vit(&vit)?.rollout(&images, &options, Query::Class)?;
    let share = |hits: Tensor| hits.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    let classes = |logits: &Tensor| logits.argmax(1, false);
    let right = |logits: &Tensor| share(classes(logits).eq_tensor(&data.labels));
    let same = share(classes(&logits).eq_tensor(&classes(&exact)));
    let maps = |rows: &Tensor| Heatmap::default().maps_of_rows(rows);
    let apart = (maps(&rows)? - maps(&exact_rows)?).mapv(f32::abs).mean().unwrap_or(f32::NAN);
    let (ours, float32) = (right(&logits), right(&exact));
    eprintln!(
        "{:.2} % the same class; right {:.2} %, float32 {:.2} %; a pixel {apart:.4} apart on average",
        100.0 * same,
        100.0 * ours,
        100.0 * float32
    );
    assert!(same > 0.99 && (ours - float32).abs() < 0.003 && apart < 0.01);
    Ok(())
}

#[test]
fn a_student_predicts_nearly_the_same_and_training_stays_float32() -> Result<()> {
    let path = format!("{MODELS}/DeiT_model.pt");
    let deit = MyDeiT::new(&Config::default(), Device::Cpu)?;
    checkpoint::assign(deit.variables(), &checkpoint::read(&path)?, path.as_ref())?;
    let images = images(64)?;
    let mut float32 = Fused::deit(&deit)?;
    let Some(mut fused) = in_bfloat16(Fused::deit(&deit))? else {
        return Ok(());
    };
    let exact = float32.heads(&images)?;
    for (ours, exact) in fused.heads(&images)?.iter().zip(&exact) {
        assert!(apart(ours, exact) < 0.02);
    }
    let options = Rollout::default();
    let (rows, _) = fused.rollout(&images, &options, Query::Distillation)?;
    let (exact_rows, _) = float32.rollout(&images, &options, Query::Distillation)?;
    assert!(apart(&rows, &exact_rows) < 0.02);

    let vit = committed_vit()?;
    let labels = Tensor::from_slice(&[1i64; 64]);
    let gradient = |fused: Fused| -> Result<Tensor> {
        let mut fused = fused;
        seed_everything(5);
        let batch = fused.cross_entropy(&images, &labels)?;
        Ok(batch.gradient.expect("a fused batch has a gradient"))
    };
    let ours = gradient(Fused::vit(&vit)?.with_precision(Precision::Bfloat16)?)?;
    assert!(ours.equal(&gradient(Fused::vit(&vit)?)?));
    // Float32 after bfloat16 gives the same predictions as before.
    let mut fused = Fused::vit(&vit)?;
    let before = fused.predict(&images)?;
    let mut fused = fused.with_precision(Precision::Bfloat16)?;
    assert!(!fused.predict(&images)?.equal(&before));
    let mut fused = fused.with_precision(Precision::Float32)?;
    assert!(fused.predict(&images)?.equal(&before));
    Ok(())
}

/// `PRECISION` of a configuration is the precision of a new learner's training steps.
#[test]
fn the_configuration_chooses_the_precision_of_training() -> Result<()> {
    let labels = Tensor::from_slice(&[1i64; 64]);
    let images = images(64)?;
    let step = |precision, changed: fn(Learner) -> Result<Learner>| -> Result<Tensor> {
        let config = Config { precision, ..Config::default() };
        seed_everything(5);
        let learner = changed(Learner::create(ModelKind::Vit, &config, Device::Cpu)?)?;
        seed_everything(6);
        Ok(learner.step(&images, &labels, Loss::CrossEntropy)?.gradient.expect("the engine gives a gradient"))
    };
    if in_bfloat16(Fused::vit(&committed_vit()?))?.is_none() {
        let refusal = step(Precision::Bfloat16, Ok).expect_err("no such instructions");
        assert!(refusal.to_string().contains("AVX512-BF16"), "{refusal}");
        return Ok(());
    }
    let configured = step(Precision::Bfloat16, Ok)?;
    assert!(configured.equal(&step(Precision::Float32, |it| it.with_training_precision(Precision::Bfloat16))?));
    assert!(!configured.equal(&step(Precision::Float32, Ok)?));
    Ok(())
}

#[test]
fn broken_weights_are_noticed() -> Result<()> {
    let (vit, images) = (committed_vit()?, images(5)?);
    no_grad(|| {
        let mut keys = vit.variables().variables()["encoder.3.attention.keys.weight"].shallow_clone();
        let _ = keys.fill_(f64::NAN);
    });
    let Some(mut fused) = in_bfloat16(Fused::vit(&vit))? else {
        return Ok(());
    };
    for discard_ratio in [0.0, 0.9] {
        let options = Rollout { discard_ratio, ..Rollout::default() };
        let refusal = fused.rollout(&images, &options, Query::Class).unwrap_err();
        assert!(refusal.to_string().contains("not finite"), "{refusal}");
    }
    Ok(())
}

#[test]
fn without_the_instructions_it_is_refused() -> Result<()> {
    let vit = committed_vit()?;
    let fused = Fused::vit(&vit)?.with_level(CpuLevel::Portable)?;
    let refusal = fused.with_precision(Precision::Bfloat16).err().expect("no such level");
    assert!(refusal.to_string().contains("AVX512-BF16"), "{refusal}");
    Ok(())
}
