//! `Learner`: the fast engine and libtorch agree in all that it does, and wrong combinations are refused in sentences.

#[path = "common/tensors.rs"]
#[allow(dead_code)] // comparisons with files
mod tensors;

use tch::{Device, Kind, Tensor};
use tensors::{difference, generator_lock as turn, spread};
use vitlab::checkpoint::{self, StateDict};
use vitlab::config::Precision;
use vitlab::data::{Source, Split, normalise, seed_everything};
use vitlab::distill::{HardDistillationLoss, SoftDistillationLoss};
use vitlab::explain::{Fusion, Heatmap, Query, Rollout};
use vitlab::learner::{Learner, Loss, Method, ModelKind};
use vitlab::metrics::{Evaluation, agreement, distillation_scores, evaluate, evaluate_heads};
use vitlab::model::{Cnn, Model, MyDeiT, VisionTransformer};
use vitlab::train::Batch;
use vitlab::{Config, Result, data::Dataset};

/// Nine rows are below the engine's largest tile of ten.
const BATCH: i64 = 9;

fn config() -> Config {
    Config { dropout: 0.0, n_layers: 2, ..Config::default() }
}

/// The same weights twice, for the engine and for libtorch.
fn pair(kind: ModelKind) -> Result<(Learner, Learner)> {
    seed_everything(3);
    let fast = Learner::create(kind, &config(), Device::Cpu)?;
    spread(fast.variables(), 0.1);
    let plain = Learner::plain(Learner::create(kind, &config(), Device::Cpu)?);
    checkpoint::assign(plain.variables(), &checkpoint::state_dict(fast.variables()), "fast".as_ref())?;
    assert!(fast.is_fused() && !plain.is_fused());
    Ok((fast, plain))
}

fn images() -> Tensor {
    Tensor::randn([BATCH, 1, 28, 28], (Kind::Float, Device::Cpu))
}

fn labels() -> Tensor {
    Tensor::randint(10, [BATCH], (Kind::Int64, Device::Cpu))
}

#[track_caller]
fn assert_near(a: &Tensor, b: &Tensor) {
    let apart = difference(a, b);
    assert!(apart < 1e-5, "{apart:e} of the largest value apart");
}

/// Gradients with respect to all parameters; a batch without one is differentiated by libtorch.
fn gradient(learner: &Learner, batch: &Batch) -> Tensor {
    let by_libtorch = || {
        let parts = Tensor::run_backward(&[&batch.loss], &learner.variables().trainable_variables(), false, false);
        Tensor::cat(&parts.iter().map(|part| part.flatten(0, -1)).collect::<Vec<_>>(), 0)
    };
    batch.gradient.as_ref().map_or_else(by_libtorch, Tensor::shallow_clone)
}

fn assert_same_step(fast: &Learner, plain: &Learner, loss: Loss) -> Result<()> {
    let (images, labels) = (images(), labels());
    let [ours, theirs] = [fast.step(&images, &labels, loss)?, plain.step(&images, &labels, loss)?];
    assert!(ours.gradient.is_some() && theirs.gradient.is_none());
    assert_near(&ours.loss, &theirs.loss.detach());
    assert_near(&ours.logits, &theirs.logits.detach());
    assert_near(&gradient(fast, &ours), &gradient(plain, &theirs));
    Ok(())
}

#[test]
fn the_engine_and_libtorch_agree() -> Result<()> {
    let _turn = turn();
    for (kind, heads, tokens) in [(ModelKind::Vit, 1, 50), (ModelKind::Deit, 2, 51), (ModelKind::Cnn, 1, 0)] {
        let (fast, plain) = pair(kind)?;
        let images = images();
        assert_near(&fast.predict(&images)?, &plain.predict(&images)?);
        let (ours, theirs) = (fast.heads(&images)?, plain.heads(&images)?);
        assert_eq!((ours.len(), theirs.len()), (heads, heads));
        ours.iter().zip(&theirs).for_each(|(ours, theirs)| assert_near(ours, theirs));
        if kind == ModelKind::Cnn {
            continue;
        }
        let [(logits, attention), (_, other)] = [fast.attention(&images)?, plain.attention(&images)?];
        assert_eq!(attention.size(), [BATCH, 2, 4, tokens, tokens]);
        assert_eq!(attention, other);
        assert_near(&logits, &fast.predict(&images)?);
        let options = Rollout { fusion: Fusion::Max, discard_ratio: 0.5, ..Rollout::default() };
        for query in [Query::Class, Query::Token(20)] {
            let [(rows, logits), (other, _)] =
                [fast.rollout(&images, &options, query)?, plain.rollout(&images, &options, query)?];
            assert_near(&rows.to_kind(Kind::Double), &other);
            assert_near(&logits, &plain.predict(&images)?);
        }
    }
    Ok(())
}

#[test]
fn steps_with_each_loss_agree() -> Result<()> {
    let _turn = turn();
    for kind in [ModelKind::Vit, ModelKind::Cnn] {
        let (fast, plain) = pair(kind)?;
        assert_same_step(&fast, &plain, Loss::CrossEntropy)?;
    }
    let (fast, plain) = pair(ModelKind::Deit)?;
    let teacher = &Tensor::randn([BATCH, 10], (Kind::Float, Device::Cpu));
    let hard = HardDistillationLoss { label_smoothing: 0.1 };
    assert_same_step(&fast, &plain, Loss::Hard { loss: hard, teacher })?;
    assert_same_step(&fast, &plain, Loss::Soft { loss: SoftDistillationLoss::default(), teacher })
}

#[test]
fn a_learner_draws_nothing_and_follows_the_variables() -> Result<()> {
    let _turn = turn();
    let draw = || Tensor::randn([4], (Kind::Float, Device::Cpu));
    for kind in [ModelKind::Vit, ModelKind::Deit, ModelKind::Cnn] {
        let images = images();
        seed_everything(9);
        let expected = match kind {
            ModelKind::Vit => VisionTransformer::new(&config(), Device::Cpu)?.predict(&images)?,
            ModelKind::Deit => MyDeiT::new(&config(), Device::Cpu)?.predict(&images)?,
            ModelKind::Cnn => Cnn::new(&config(), Device::Cpu)?.predict(&images)?,
        };
        let next = draw();
        seed_everything(9);
        let learner = Learner::create(kind, &config(), Device::Cpu)?;
        assert_near(&learner.predict(&images)?, &expected);
        assert_eq!(draw(), next);

        let before = learner.predict(&images)?;
        spread(learner.variables(), 0.1);
        assert!(difference(&learner.predict(&images)?, &before) > 0.1);
    }
    Ok(())
}

#[test]
fn a_file_tells_kind_and_sizes() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (kind, prefix) in [(ModelKind::Vit, Some(1)), (ModelKind::Deit, Some(2)), (ModelKind::Cnn, None)] {
        let (learner, _) = pair(kind)?;
        let path = folder.path().join("model.safetensors");
        checkpoint::write(&path, &checkpoint::state_dict(learner.variables()))?;
        let read = Learner::read(&path, Device::Cpu)?;
        assert_eq!(read.network().prefix_tokens().ok(), prefix);
        let images = images();
        assert_eq!(read.predict(&images)?, learner.predict(&images)?);
    }
    let path = folder.path().join("other.safetensors");
    let other = |names: &[&str]| {
        let tensors = names.iter().map(|name| (name.to_string(), Tensor::zeros([4], (Kind::Float, Device::Cpu))));
        checkpoint::write(&path, &StateDict(tensors.collect())).expect("a small file");
        Learner::read(&path, Device::Cpu).err().expect("no model").to_string()
    };
    let unknown = other(&["blocks.0.weight", "head"]);
    assert!(unknown.ends_with("holds no model of vitlab: its first tensors are blocks.0.weight, head"), "{unknown}");
    let broken = other(&["embedding.cls_token"]);
    assert!(broken.ends_with("embedding.conv1.weight is missing or has a wrong shape"), "{broken}");
    Ok(())
}

#[test]
fn wrong_combinations_are_sentences() -> Result<()> {
    let _turn = turn();
    let (images, labels) = (images(), labels());
    let teacher = &Tensor::randn([BATCH, 10], (Kind::Float, Device::Cpu));
    let few = &teacher.narrow(0, 0, 2);
    let hard = |teacher| Loss::Hard { loss: HardDistillationLoss::default(), teacher };
    for kind in [ModelKind::Vit, ModelKind::Deit, ModelKind::Cnn] {
        let (fast, plain) = pair(kind)?;
        for learner in [&fast, &plain] {
            let refused = |loss| learner.step(&images, &labels, loss).unwrap_err().to_string();
            if kind == ModelKind::Deit {
                assert!(
                    refused(Loss::CrossEntropy).contains("give Loss::Hard or Loss::Soft with the teacher's logits")
                );
                let few = refused(hard(few));
                assert_eq!(few, "the teacher's logits are [2, 10], this batch needs [9, 10]");
            } else {
                assert!(refused(hard(teacher)).contains("give Loss::CrossEntropy to a ViT or CNN"));
            }
            let few = learner.step(&images, &labels.narrow(0, 0, 2), hard(teacher)).unwrap_err().to_string();
            assert_eq!(few, "the labels are [2] of Int64; give one Int64 per image, 9");
            let shape = learner.predict(&images.squeeze_dim(1)).unwrap_err().to_string();
            assert!(shape.contains("this model needs [B, 1, 28, 28]"), "{shape}");
        }
        if kind == ModelKind::Cnn {
            let refused = [
                fast.attention(&images).unwrap_err(),
                fast.rollout(&images, &Rollout::default(), Query::Class).unwrap_err(),
                fast.explain(&images, &Method::Relevance(None), &Heatmap::default(), |_| {}).unwrap_err(),
            ];
            refused.iter().for_each(|error| assert!(error.to_string().contains("a CNN has no attention"), "{error}"));
        }
        let bfloat = plain.with_precision(Precision::Bfloat16).err().expect("libtorch predicts in float32").to_string();
        assert!(bfloat.contains("bfloat16 is for a ViT or a DeiT on the CPU"), "{bfloat}");
    }
    Ok(())
}

#[test]
fn explanations_of_many_images_are_those_of_each() -> Result<()> {
    let _turn = turn();
    let (learner, _) = pair(ModelKind::Deit)?;
    let data = Dataset::read(&Source::Synthetic, Split::Test, Device::Cpu)?.take(403)?; // more than a batch
    let labels = Vec::<i64>::try_from(&data.labels)?;
    let heatmap = Heatmap::default();
    for method in [
        Method::Rollout(Rollout::default()),
        Method::GradientRollout(Rollout::default(), Some(3)),
        Method::Relevance(None),
    ] {
        let mut last = 0;
        let all = learner.explain(&data.images, &method, &heatmap, |done| last = done)?;
        assert_eq!(
            (last, all.predicted.len(), all.maps.dim(), all.grids.dim()),
            (403, 403, (403, 28, 28), (403, 7, 7))
        );
        let one = learner.explain(&data.images.narrow(0, 401, 1), &method, &heatmap, |_| {})?;
        let apart =
            (&one.maps.index_axis(ndarray::Axis(0), 0) - &all.maps.index_axis(ndarray::Axis(0), 401)).mapv(f32::abs);
        assert!(apart.iter().all(|apart| *apart < 1e-5));
        assert_eq!(one.predicted[0], all.predicted[401]);
        let figure = one.figure("Maps", &data.images.narrow(0, 401, 1), Some(&labels[401..402]), heatmap.scale)?;
        assert!(figure.alt().contains("Maps"));
        assert!(one.figure("Maps", &data.images, None, heatmap.scale).is_err());
    }
    Ok(())
}

#[test]
fn heads_are_evaluated_in_one_pass() -> Result<()> {
    let _turn = turn();
    let (student, _) = pair(ModelKind::Deit)?;
    let (teacher, _) = pair(ModelKind::Cnn)?;
    let data = Dataset::read(&Source::Synthetic, Split::Test, Device::Cpu)?.take(700)?;
    let [class, dist] = &evaluate_heads(&data, |images| student.heads(images))?[..] else {
        panic!("a DeiT has two heads")
    };
    let (both, teacher) = (evaluate(&student, &data)?, evaluate(&teacher, &data)?);
    let mean = Evaluation::mean(class, dist)?;
    assert_eq!((mean.accuracy, mean.loss, &mean.logits), (both.accuracy, both.loss, &both.logits));
    let heads = student.heads(&normalise(&data.range(500, 700).0))?;
    assert_near(&dist.logits.narrow(0, 500, 200), &heads[1]);
    let scores = distillation_scores(class, dist, &teacher)?;
    let names: Vec<&str> = scores.keys().map(String::as_str).collect();
    let expected =
        ["average agreement", "class accuracy", "class agreement", "distillation accuracy", "distillation agreement"];
    assert_eq!(names, expected);
    assert_eq!(scores["class accuracy"], class.accuracy);
    assert_eq!(scores["average agreement"], agreement(&both.predictions(), &teacher.predictions()));
    Ok(())
}
