//! Rollouts by libtorch, which drop each layer's attention, equal the rollout of the attention of all layers, and take
//! less memory.

#[path = "common/tensors.rs"]
#[allow(dead_code)] // comparisons with files
mod tensors;

use tch::{Device, Kind, Tensor};
use tensors::{difference, generator_lock as turn, spread};
use vitlab::data::seed_everything;
use vitlab::explain::{DiscardPer, Fusion, Layers, Normalisation, Query, Rollout, rollout, row};
use vitlab::learner::Learner;
use vitlab::model::{Head, Model, MyDeiT, Pool, Structure, ViTConfig, VisionTransformer};
use vitlab::{Config, Result};

/// Four layers of three heads, 16 patches and the class token. A pass takes 94 images.
fn small() -> ViTConfig {
    let structure = Structure { head: Head::Linear, ..Structure::default() };
    ViTConfig {
        image_size: 32,
        patch_size: 8,
        n_channels: 3,
        embed_dim: 48,
        n_layers: 4,
        n_attention_heads: 3,
        position_rows: 17,
        structure,
        ..ViTConfig::from(&Config::default())
    }
}

/// A learner with uneven attention, that libtorch computes.
fn learner(config: ViTConfig, distilled: bool) -> Learner {
    seed_everything(5);
    let learner = match distilled {
        true => Learner::plain(MyDeiT::with_sizes(config, Device::Cpu)),
        false => Learner::plain(VisionTransformer::with_sizes(config, Device::Cpu)),
    };
    spread(learner.variables(), 0.3);
    learner
}

fn images(learner: &Learner, count: i64) -> Tensor {
    let (channels, side) = learner.network().image();
    Tensor::randn([count, channels, side, side], (Kind::Float, Device::Cpu))
}

/// The bounds are those of float32: attention and logits are summed in another order.
#[track_caller]
fn assert_equals_stored(learner: &Learner, images: &Tensor, options: &Rollout, query: Query) -> Result<()> {
    let (rows, logits) = learner.rollout(images, options, query)?;
    let (expected, attention) = learner.attention(images)?;
    let stored = row(&rollout(&attention, options)?, query, learner.network().prefix_tokens()?)?;
    assert_eq!((rows.kind(), rows.size()), (Kind::Double, stored.size()));
    let apart = difference(&rows, &stored);
    assert!(apart < 1e-5, "{options:?}, {query}: rows {apart:e} apart");
    let apart = difference(&logits, &expected);
    assert!(apart < 1e-5, "{options:?}, {query}: logits {apart:e} apart");
    Ok(())
}

#[test]
fn every_option_and_query() -> Result<()> {
    let _turn = turn();
    let learner = learner(small(), false);
    let images = images(&learner, 3);
    for fusion in [Fusion::Mean, Fusion::Max, Fusion::Min] {
        for (discard_ratio, discard_per) in
            [(0.0, DiscardPer::Matrix), (0.6, DiscardPer::Matrix), (0.6, DiscardPer::Row)]
        {
            for layers in ["all", "1..3", "0,2", "3", "0..3"] {
                for normalisation in [Normalisation::RowSum, Normalisation::Compat] {
                    let layers = layers.parse::<Layers>()?;
                    let options = Rollout { fusion, discard_ratio, discard_per, layers, normalisation };
                    for query in [Query::Class, Query::Token(0), Query::Token(16)] {
                        assert_equals_stored(&learner, &images, &options, query)?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_structure() -> Result<()> {
    let _turn = turn();
    let rollouts = [
        Rollout::default(),
        Rollout { fusion: Fusion::Max, discard_ratio: 0.9, ..Rollout::default() },
        Rollout { layers: Layers::Range(0..2), ..Rollout::default() },
    ];
    for pool in [Pool::Class, Pool::Patches, Pool::PatchesBeforeNorm, Pool::ClassAndPatches] {
        for (registers, layer_scale, head) in
            [(0, false, Head::TwoLayers), (3, true, Head::Linear), (0, true, Head::None)]
        {
            let mut config = small();
            (config.structure.pool, config.structure.head) = (pool, head);
            (config.structure.layer_scale, config.structure.registers) = (layer_scale, registers);
            config.structure.prefix_tokens = 1 + registers;
            config.position_rows = 17 + registers;
            let learner = learner(config, false);
            let images = images(&learner, 2);
            for options in &rollouts {
                for query in [Query::Class, Query::Token(1), Query::Token(16)] {
                    assert_equals_stored(&learner, &images, options, query)?;
                }
            }
        }
    }
    let learner = learner(ViTConfig { position_rows: 18, ..small() }, true);
    let images = images(&learner, 2);
    for options in &rollouts {
        for query in [Query::Class, Query::Distillation, Query::Token(2)] {
            assert_equals_stored(&learner, &images, options, query)?;
        }
    }
    Ok(())
}

/// Passes over 94 images and attention of all of them at once; passes over 24 images and attention of three; passes over
/// six images and attention of one.
#[test]
fn batches_around_the_size_of_a_pass() -> Result<()> {
    let _turn = turn();
    let sizes = |image_size, patch_size, n_attention_heads, position_rows| ViTConfig {
        image_size,
        patch_size,
        n_attention_heads,
        position_rows,
        n_layers: 2,
        ..small()
    };
    let cases: [(ViTConfig, &[i64]); 3] = [
        (sizes(32, 8, 3, 17), &[1, 93, 94, 95, 189]),
        (sizes(32, 4, 16, 65), &[1, 2, 23, 24, 25, 49]),
        (sizes(64, 4, 8, 257), &[1, 5, 6, 7, 13]),
    ];
    for (config, counts) in cases {
        let learner = learner(config, false);
        for &count in counts {
            let images = images(&learner, count);
            assert_equals_stored(&learner, &images, &Rollout::default(), Query::Class)?;
            let discard = Rollout { fusion: Fusion::Min, discard_ratio: 0.3, ..Rollout::default() };
            assert_equals_stored(&learner, &images, &discard, Query::Token(7))?;
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let _turn = turn();
    let learner = learner(small(), false);
    let images = images(&learner, 2);
    let refused = |images: &Tensor, options: &Rollout, query| {
        let message = learner.rollout(images, options, query).expect_err("refused").to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    let options = Rollout::default();
    assert!(refused(&images, &options, Query::Token(17)).contains("this model has 17 tokens, 0 to 16"));
    assert!(refused(&images, &options, Query::Distillation).contains("no distillation token"));
    let layers = Rollout { layers: Layers::List(vec![4]), ..Rollout::default() };
    assert!(refused(&images, &layers, Query::Class).contains("this model has 4 layers, 0 to 3"));
    let ratio = Rollout { discard_ratio: 1.0, ..Rollout::default() };
    assert!(refused(&images, &ratio, Query::Class).contains("discard ratio 1"));
    assert!(refused(&images.get(0), &options, Query::Class).contains("this model needs [B, 3, 32, 32]"));
    assert!(refused(&images.narrow(0, 0, 0), &options, Query::Class).contains("there are no images"));
    let nan = images.copy();
    let _ = nan.get(1).fill_(f64::NAN);
    for options in [options, Rollout { layers: Layers::List(vec![3]), ..Rollout::default() }] {
        assert!(refused(&nan, &options, Query::Class).contains("not finite"));
    }
    Ok(())
}

/// Most bytes in the process's memory during `work` beyond those before, if the system counts them.
fn peak(work: impl FnOnce()) -> Option<f64> {
    let read = |field: &str| {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
    };
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = read("VmRSS:")?;
    work();
    Some(read("VmHWM:")? - before)
}

/// ViT-B/16 at 224. Its attention in all layers, of 16 images, takes 358 MB.
#[test]
fn the_attention_is_not_stored() -> Result<()> {
    let _turn = turn();
    let config = ViTConfig {
        image_size: 224,
        patch_size: 16,
        n_channels: 3,
        embed_dim: 768,
        n_layers: 12,
        n_attention_heads: 12,
        forward_mul: 4,
        position_rows: 197,
        structure: Structure { head: Head::Linear, ..Structure::default() },
        ..ViTConfig::from(&Config::default())
    };
    let stored = (16 * 12 * 12 * 197 * 197 * 4) as f64;
    let learner = Learner::new(VisionTransformer::with_sizes(config, Device::Cpu));
    assert!(!learner.is_fused());
    let images = images(&learner, 16);
    drop(learner.rollout(&images.narrow(0, 0, 1), &Rollout::default(), Query::Class)?); // libtorch's own buffers
    let rollout = peak(|| drop(learner.rollout(&images, &Rollout::default(), Query::Class)));
    // One copy, and the intermediate results of a block for all images.
    let attention = peak(|| drop(learner.attention(&images)));
    eprintln!("peaks: rollout {rollout:?}, attention {attention:?}, which takes {stored}");
    assert!(rollout.is_none_or(|bytes| bytes < stored / 2.0), "rollout {rollout:?}");
    assert!(attention.is_none_or(|bytes| bytes < stored * 1.8), "attention {attention:?}");
    Ok(())
}
