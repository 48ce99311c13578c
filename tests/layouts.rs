//! Checkpoints of other libraries, compared with what these libraries compute from them, and checkpoints that don't fit.
//!
//! `tests/reference/layouts.py` wrote the files in `tests/layouts`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use vitlab::checkpoint::layouts::{Architecture, Understood, understand};
use vitlab::checkpoint::{Checkpoint, StateDict, read_safetensors, state_dict};
use vitlab::data::{Filter, Fit, Preprocessing};
use vitlab::explain::{Heatmap, Query, Rollout, Target, gradient_attention, relevance, rollout, row};
use vitlab::learner::{Learner, Network, ReadOptions};
use vitlab::model::{Head, Model, Pool, Structure, ViTConfig, VisionTransformer};
use vitlab::{Config, Result};

/// Tokens before the patches, and the side of the images that the models were made for.
const CASES: [(&str, i64); 15] = [
    ("timm", 1),
    ("timm_registers", 4),
    ("timm_rows", 3),
    ("timm_patches", 4),
    ("timm_deit", 2),
    ("dinov2", 1),
    ("dinov2_registers", 4),
    ("vit", 1),
    ("deit", 2),
    ("deit_teacher", 2),
    ("dinov2_classifier", 1),
    ("dinov2_features", 4),
    ("torchvision", 1),
    ("torchvision_two_layers", 1),
    ("google", 1),
];
const TRAINED: i64 = 16;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/layouts")
}

thread_local! {
    static EXPECTED: BTreeMap<String, Tensor> = {
        let (tensors, _) = read_safetensors(folder().join("expected.safetensors")).expect("the file is committed");
        tensors.0.into_iter().collect()
    };
}

fn expected(name: &str) -> Tensor {
    EXPECTED.with(|tensors| tensors[name].shallow_clone())
}

/// The checkpoint and the number of heads that its user has to give.
fn checkpoint(name: &str) -> (Checkpoint, Option<i64>) {
    let path = folder().join(format!("{name}.safetensors"));
    let (tensors, _) = read_safetensors(&path).expect("the file is committed");
    let text = std::fs::read_to_string(path.with_extension("json")).expect("the file is committed");
    let mut beside: Value = serde_json::from_str(&text).expect("JSON");
    let mut part = |name: &str| Some(beside[name].take()).filter(|value| !value.is_null());
    let (config, preprocessor) = (part("config"), part("preprocessor"));
    (Checkpoint { tensors, config, preprocessor, path, ..Checkpoint::default() }, beside["heads"].as_i64())
}

fn learner(name: &str, image_size: Option<i64>) -> Result<Learner> {
    let (checkpoint, heads) = checkpoint(name);
    Learner::from_checkpoint(checkpoint, &ReadOptions { heads, image_size, ..ReadOptions::default() }, Device::Cpu)
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

fn refusal<T>(result: Result<T>) -> String {
    let message = result.err().expect("refused").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Reads the tensors of a case after a change.
fn changed(name: &str, change: impl FnOnce(&mut Checkpoint)) -> Result<Understood> {
    let (mut checkpoint, heads) = checkpoint(name);
    change(&mut checkpoint);
    understand(checkpoint, heads, None)
}

fn set(checkpoint: &mut Checkpoint, name: &str, tensor: Option<Tensor>) {
    checkpoint.tensors.0.retain(|(key, _)| key != name);
    checkpoint.tensors.0.extend(tensor.map(|tensor| (name.to_string(), tensor)));
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn every_layout_computes_what_its_library_computes() -> Result<()> {
    for (name, prefix) in CASES {
        for size in [TRAINED, 12, 24] {
            let learner = learner(name, Some(size))?;
            assert!(!learner.is_fused(), "{name}");
            assert_eq!(learner.network().prefix_tokens()?, prefix, "{name}");
            let images = expected(&format!("images/{size}"));
            let (logits, attention) = learner.attention(&images)?;
            let error = apart(&logits, &expected(&format!("{name}/{size}/logits")));
            assert!(error < 1e-5, "{name} at {size}: logits {error:e} apart");
            let theirs = expected(&format!("{name}/{size}/attention"));
            let layers = theirs.size()[1];
            let error = apart(&attention.narrow(1, attention.size()[1] - layers, layers), &theirs);
            // The libraries' numbers come from a CPU with AVX-512; with AVX2 they round to 1.1e-6 apart.
            assert!(error < 2e-6, "{name} at {size}: attention {error:e} apart");
            assert_eq!(learner.predict(&images)?, logits);
        }
    }
    Ok(())
}

/// Without the size that the user gives, the positions are those of the file, except where the library scales them to
/// its preprocessor's pictures.
#[test]
fn the_image_size_is_the_trained_one() -> Result<()> {
    for (name, _) in CASES {
        assert_eq!(learner(name, None)?.network().image(), (3, TRAINED), "{name}");
    }
    let at_24 = changed("dinov2_classifier", |checkpoint| {
        checkpoint.preprocessor.as_mut().expect("it has one")["crop_size"] = json!({"height": 24, "width": 24});
    })?;
    let Architecture::Vit(sizes) = &at_24.architecture else { panic!("a ViT") };
    assert_eq!((sizes.image_size, sizes.position_rows, at_24.preprocessing.side), (24, 37, 24));
    assert!(
        at_24
            .notes
            .iter()
            .any(|note| note.contains("4 × 4 patches become 6 × 6 (bicubic, as in transformers' Dinov2)"))
    );
    for size in [0, -4, 13, 1 << 20, i64::MAX] {
        let message = refusal(learner("timm", Some(size)));
        assert!(message.contains("need a multiple of 4 up to 8192"), "{message}");
    }
    Ok(())
}

#[test]
fn older_and_wrapped_names_mean_the_same() -> Result<()> {
    let images = expected("images/16");
    let rename = |case: &str, name: &dyn Fn(&str) -> String| -> Result<Tensor> {
        let (mut checkpoint, heads) = checkpoint(case);
        checkpoint.tensors.0.iter_mut().for_each(|(key, _)| *key = name(key));
        let options = ReadOptions { heads, ..ReadOptions::default() };
        Learner::from_checkpoint(checkpoint, &options, Device::Cpu)?.predict(&images)
    };
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&str, Rename); 5] = [
        ("vit", &|name| name.strip_prefix("vit.").unwrap_or(name).to_string()),
        ("dinov2_registers", &|name| name.replace("blocks.1.", "blocks.7.1.").replace("blocks.0.", "blocks.0.0.")),
        ("timm_registers", &|name| name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")),
        ("torchvision", &|name| name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2")),
        ("google", &|name| format!("opt/target/{name}")),
    ];
    for case in ["vit", "deit", "deit_teacher", "dinov2_classifier", "dinov2_features"] {
        let text = std::fs::read_to_string(folder().join(format!("{case}.json"))).expect("the file is committed");
        let names: Value = serde_json::from_str::<Value>(&text).expect("JSON")["present_names"].take();
        let logits = rename(case, &|name| names[name].as_str().expect("a name").to_string())?;
        let error = apart(&logits, &expected(&format!("{case}/16/logits")));
        assert!(error < 1e-5, "{case} with the present names: {error:e}");
    }
    for (case, name) in cases {
        let error = apart(&rename(case, name)?, &expected(&format!("{case}/16/logits")));
        assert!(error < 1e-5, "{case}: {error:e}");
    }
    Ok(())
}

#[test]
fn what_the_files_say_is_read() -> Result<()> {
    let structure = |name| -> Result<(Structure, i64)> {
        let understood = changed(name, |_| {})?;
        let (Architecture::Vit(sizes) | Architecture::Deit(sizes)) = understood.architecture else { panic!("a CNN") };
        assert_eq!(
            (sizes.hidden_dim(), sizes.n_layers, sizes.n_attention_heads),
            (if name.contains("dinov2_") && !name.ends_with("_registers") { 32 } else { 24 }, 2, 2),
            "{name}"
        );
        Ok((sizes.structure, sizes.position_rows))
    };
    let base = Structure { hidden_dim: Some(24), norm_epsilon: 1e-6, head: Head::Linear, ..Structure::default() };
    assert_eq!(structure("timm")?, (base.clone(), 17));
    let registers = Structure { prefix_tokens: 4, registers: 3, layer_scale: true, ..base.clone() };
    assert_eq!(structure("timm_registers")?, (Structure { pool: Pool::PatchesBeforeNorm, ..registers.clone() }, 16));
    let rows = Structure { prefix_tokens: 3, registers: 2, pool: Pool::Patches, ..base.clone() };
    assert_eq!(structure("timm_rows")?, (rows, 19));
    let patches = Structure { prefix_tokens: 4, registers: 4, pool: Pool::Patches, ..base.clone() };
    assert_eq!(structure("timm_patches")?, (patches, 16));
    assert_eq!(structure("dinov2_registers")?, (Structure { head: Head::None, ..registers }, 16));
    assert_eq!(structure("vit")?, (Structure { norm_epsilon: 1e-12, ..base.clone() }, 17));
    assert_eq!(structure("deit")?, (Structure { norm_epsilon: 1e-12, prefix_tokens: 2, ..base.clone() }, 18));
    let classifier = Structure { hidden_dim: None, layer_scale: true, pool: Pool::ClassAndPatches, ..base.clone() };
    assert_eq!(structure("dinov2_classifier")?, (classifier, 17));
    assert_eq!(structure("torchvision_two_layers")?, (Structure { head: Head::TwoLayers, ..base }, 17));
    for name in ["timm_deit", "deit_teacher"] {
        let learner = learner(name, None)?;
        assert!(matches!(learner.network(), Network::Deit(_)), "{name}");
        assert_eq!(learner.heads(&expected("images/16"))?.len(), 2);
    }
    Ok(())
}

#[test]
fn input_and_classes_come_from_the_descriptions() -> Result<()> {
    let timm = learner("timm", None)?;
    let quarter = Preprocessing {
        side: 16,
        channels: 3,
        fit: Fit::Crop { shorter: 17 }, // 16 / 0.9, rounded down as timm does it
        filter: Filter::Bicubic,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
    };
    assert_eq!(timm.preprocessing(), &quarter);
    assert_eq!(timm.classes().expect("label_names"), ["a", "b", "c", "d", "e"]);
    let vit = learner("vit", None)?;
    let stretched = Preprocessing { fit: Fit::Stretch, filter: Filter::Bilinear, ..quarter.clone() };
    assert_eq!(vit.preprocessing(), &stretched);
    assert_eq!(vit.classes().expect("id2label")[4], "class 4");
    let cropped = Preprocessing { fit: Fit::Crop { shorter: 20 }, ..quarter };
    assert_eq!(learner("dinov2_classifier", None)?.preprocessing(), &cropped);
    // Twice the side, so twice the length of the shorter side.
    let double = learner("dinov2_classifier", Some(32))?;
    assert_eq!(double.preprocessing(), &Preprocessing { side: 32, fit: Fit::Crop { shorter: 40 }, ..cropped });

    let unnamed = changed("vit", |checkpoint| {
        let config = checkpoint.config.as_mut().expect("it has one");
        config["id2label"] = json!({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2", "3": "LABEL_3", "4": "LABEL_4"});
        checkpoint.preprocessor = Some(json!({
            "size": 16, "do_rescale": true, "rescale_factor": 1.0 / 127.5, "image_mean": [1.0, 1.0, 1.0],
            "image_std": [0.5, 0.5, 0.5], "resample": 9
        }));
    })?;
    assert_eq!(unnamed.classes, None);
    assert!(unnamed.notes[0].contains("filter for scaling pictures is unknown"), "{:?}", unnamed.notes);
    let Preprocessing { mean, std, fit, .. } = unnamed.preprocessing;
    // (2x − 1) / 0.5 for x from 0 to 1
    assert!(mean.iter().all(|mean| (mean - 0.5).abs() < 1e-12) && std.iter().all(|std| (std - 0.25).abs() < 1e-12));
    assert_eq!(fit, Fit::Stretch);
    let torchvision = learner("torchvision", None)?;
    assert_eq!(torchvision.preprocessing().mean, [0.485, 0.456, 0.406]);
    Ok(())
}

#[test]
fn what_is_assumed_is_said() -> Result<()> {
    let without = |name: &str, heads| {
        let (mut checkpoint, _) = checkpoint(name);
        (checkpoint.config, checkpoint.preprocessor) = (None, None);
        understand(checkpoint, heads, None)
    };
    // A width of 16 is no multiple of 64.
    let message = refusal(without("timm", None));
    assert!(
        message.ends_with("heads is unknown, which doesn't fit the width 16; give --heads N, a divisor of 16"),
        "{message}"
    );
    let message = refusal(without("timm", Some(3)));
    assert!(message.contains("heads is 3, which doesn't fit the width 16"), "{message}");
    for (name, epsilon) in [("timm", 1e-6), ("vit", 1e-12), ("dinov2_classifier", 1e-6), ("torchvision", 1e-6)] {
        let understood = without(name, Some(2))?;
        let Architecture::Vit(sizes) = understood.architecture else { panic!("a ViT") };
        assert_eq!((sizes.n_attention_heads, sizes.structure.norm_epsilon), (2, epsilon), "{name}");
        let assumed = "assumed, since nothing beside the tensors says it: norms with epsilon 1e-";
        let fits = |note: &String| note.starts_with(assumed) && note.contains("; pictures as ");
        assert!(understood.notes.iter().any(fits), "{:?}", understood.notes);
    }
    // Google's shapes tell the heads.
    assert!(matches!(without("google", None)?.architecture, Architecture::Vit(sizes) if sizes.n_attention_heads == 2));
    // A complete description leaves nothing to assume.
    assert_eq!(changed("vit", |_| {})?.notes, Vec::<String>::new());
    assert_eq!(changed("timm", |_| {})?.notes, Vec::<String>::new());
    assert!(changed("dinov2", |_| {})?.notes.iter().any(|note| note.contains("left out (1): mask_token")));
    assert!(changed("dinov2", |_| {})?.notes.iter().any(|note| note.contains("has no head: its logits are the 16")));
    Ok(())
}

/// timm's config.json has no number of heads, but the name of an architecture.
#[test]
fn heads_of_timms_architectures_come_from_their_names() -> Result<()> {
    let understood = |embed: i64, architecture: Option<&str>| {
        let mut tensors = vec![
            ("cls_token".to_string(), zeros(&[1, 1, embed])),
            ("pos_embed".to_string(), zeros(&[1, 5, embed])),
            ("patch_embed.proj.weight".to_string(), zeros(&[embed, 3, 2, 2])),
        ];
        let mut layer = |name: &str, outputs: i64, inputs: Option<i64>| {
            let weight = inputs.map_or(vec![outputs], |inputs| vec![outputs, inputs]);
            tensors.push((format!("{name}.weight"), zeros(&weight)));
            tensors.push((format!("{name}.bias"), zeros(&[outputs])));
        };
        for norm in ["blocks.0.norm1", "blocks.0.norm2", "norm"] {
            layer(norm, embed, None);
        }
        layer("blocks.0.attn.qkv", 3 * embed, Some(embed));
        for linear in ["blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"] {
            layer(linear, embed, Some(embed));
        }
        let config =
            architecture.map(|name| json!({"architecture": name, "pretrained_cfg": {"mean": 0.5, "std": 0.5}}));
        understand(Checkpoint { tensors: StateDict(tensors), config, ..Checkpoint::default() }, None, None)
    };
    for (embed, architecture, heads) in [
        (192, Some("vit_tiny_patch16_224"), 3),
        (1152, Some("vit_so400m_patch14_reg4_gap_256"), 16),
        (768, Some("vit_base_patch16_224"), 12),
        (768, Some("vit_base_patch16_gap_224"), 16),
        (64, Some("test_vit"), 2),
        (768, None, 12),
        (1280, None, 16),
    ] {
        let understood = understood(embed, architecture)?;
        let Architecture::Vit(sizes) = understood.architecture else { panic!("a ViT") };
        assert_eq!(sizes.n_attention_heads, heads, "{architecture:?} of width {embed}");
        let said = understood.notes.iter().any(|note| note.contains(&format!("{heads} attention heads of width")));
        assert_eq!(said, architecture.is_none());
    }
    Ok(())
}

/// A model of the homework with another number of heads than its width suggests.
fn homework(heads: i64, config: Option<Value>) -> Result<Understood> {
    let config_of_model = Config { embed_dim: 32, n_attention_heads: heads, n_layers: 1, ..Config::default() };
    let tensors = state_dict(VisionTransformer::new(&config_of_model, Device::Cpu)?.variables());
    understand(Checkpoint { tensors, config, path: "ViT.pt".into(), ..Checkpoint::default() }, None, None)
}

#[test]
fn heads_of_the_homeworks_models_come_from_the_description() -> Result<()> {
    let heads = |understood: &Understood| match &understood.architecture {
        Architecture::Vit(sizes) => sizes.n_attention_heads,
        other => panic!("{other:?}"),
    };
    let history = json!({"config": {"EMBED_DIM": 32, "N_ATTENTION_HEADS": 8, "EXTRA": 1}, "epochs": []});
    let constants = json!({"N_ATTENTION_HEADS": 8});
    for config in [history, constants] {
        let understood = homework(8, Some(config))?;
        assert_eq!((heads(&understood), understood.notes.len()), (8, 0));
    }
    let assumed = homework(8, None)?;
    assert_eq!(heads(&assumed), 2);
    assert!(
        assumed.notes[0].contains("2 attention heads of width 16 (give --heads N if it has another"),
        "{:?}",
        assumed.notes
    );
    let other = homework(8, Some(json!({"EMBED_DIM": 64, "N_ATTENTION_HEADS": 4})))?;
    assert!(other.notes[0].contains("is of a model of width 64, this one has 32"), "{:?}", other.notes);
    let message = refusal(homework(8, Some(json!({"N_ATTENTION_HEADS": "eight"}))));
    assert_eq!(
        message,
        "ViT.pt: its configuration has N_ATTENTION_HEADS \"eight\", but it must be a positive whole number"
    );
    let message = refusal(homework(8, Some(json!({"N_ATTENTION_HEADS": 5}))));
    assert!(message.contains("heads is 5, which doesn't fit the width 32"), "{message}");
    Ok(())
}

#[test]
fn another_computation_is_refused_by_name() {
    let with = |name: &str, key: &str, value: Value| {
        refusal(changed(name, |checkpoint| checkpoint.config.as_mut().expect("it has one")[key] = value))
    };
    for activation in ["quick_gelu", "gelu_new", "relu"] {
        let message = with("vit", "hidden_act", json!(activation));
        assert!(message.contains(&format!("hidden_act \"{activation}\", but it must be gelu")), "{message}");
    }
    assert!(with("vit", "model_type", json!("clip")).contains("is a model of type clip; vitlab has vit, deit"));
    assert!(with("vit", "layer_norm_eps", json!("small")).contains("must be a small positive number"));
    assert!(with("timm", "model_args", json!({"num_heads": 2, "act_layer": "quick_gelu"})).contains("act_layer"));
    assert!(with("timm", "model_args", json!({"num_heads": 2, "norm_layer": "rmsnorm"})).contains("norm_layer"));
    let message = with("timm", "architecture", json!("vit_base_patch16_clip_quickgelu_224"));
    assert!(message.contains("\"quickgelu\""), "{message}");
    assert!(with("timm", "global_pool", json!("map")).contains("its pooling is \"map\"; vitlab has token and avg"));
}

#[test]
fn all_tensors_that_do_not_fit_are_named_as_in_the_file() {
    let message = refusal(changed("timm", |checkpoint| {
        set(checkpoint, "blocks.1.norm2.bias", None);
        set(checkpoint, "blocks.0.attn.qkv.bias", Some(zeros(&[47])));
        set(checkpoint, "head.weight", Some(zeros(&[5, 17])));
        set(checkpoint, "blocks.0.attn.q_norm.weight", Some(zeros(&[8])));
        set(checkpoint, "norm_pre.weight", Some(zeros(&[16])));
    }));
    for problem in [
        "blocks.0.attn.q_norm.weight is not understood",
        "norm_pre.weight is not understood",
        "blocks.0.attn.qkv.bias is [47], which is not 3 matrices in one",
        "head.weight is [5, 17], this model needs [5, 16]",
        "blocks.1.norm2.bias is missing",
    ] {
        assert!(message.contains(problem), "{problem}: {message}");
    }
    let message = refusal(changed("google", |checkpoint| set(checkpoint, "Transformer/encoder_norm/scale", None)));
    assert!(message.ends_with("google.safetensors: Transformer/encoder_norm/scale is missing"), "{message}");
    let message = refusal(changed("vit", |checkpoint| {
        set(checkpoint, "vit.encoder.layer.0.attention.attention.key.bias", None);
    }));
    assert!(message.contains("encoder.layer.0.attention.attention.key.bias is missing"), "{message}");
    let message = refusal(changed("timm", |checkpoint| {
        for i in 0..3000 {
            set(checkpoint, &format!("other.{i}"), Some(zeros(&[1])));
        }
    }));
    assert!(message.contains("other.39 is not understood") && message.ends_with("and 2960 more"), "{message}");
}

/// A file of a few kilobytes whose sizes would need gigabytes.
#[test]
fn sizes_that_lie_are_found_before_a_model_is_built() {
    let start = std::time::Instant::now();
    let repeated = |shape: &[i64]| zeros(&[1]).expand(shape, false);
    let message = refusal(changed("timm", |checkpoint| {
        for (_, tensor) in &mut checkpoint.tensors.0 {
            let shape: Vec<i64> = tensor.size().iter().map(|size| if *size == 16 { 60_000 } else { *size }).collect();
            *tensor = repeated(&shape);
        }
    }));
    assert!(message.contains("its tensors repeat their values"), "{message}");
    let message = refusal(changed("timm", |checkpoint| set(checkpoint, "cls_token", Some(zeros(&[1, 1, 60_000])))));
    assert!(message.contains("cls_token is [1, 1, 60000] of Float, this model needs [1, n, 16]"), "{message}");
    let message = refusal(changed("timm", |checkpoint| {
        set(checkpoint, "patch_embed.proj.weight", Some(zeros(&[60_000, 3, 4, 4])));
    }));
    assert!(message.contains("pos_embed is [1, 17, 16] of Float, this model needs [1, n, 60000]"), "{message}");
    let message = refusal(changed("timm", |checkpoint| {
        set(checkpoint, "blocks.4000000000.norm1.weight", Some(zeros(&[16])));
    }));
    assert!(message.contains("blocks.4000000000.norm1.weight is not part of this model"), "{message}");
    let message = refusal(changed("timm", |checkpoint| {
        set(checkpoint, "head.bias", Some(zeros(&[1 << 20])));
    }));
    assert!(message.contains("head.bias is [1048576], this model needs [5]"), "{message}");
    let message = refusal(changed("timm", |checkpoint| {
        checkpoint.config.as_mut().expect("it has one")["model_args"] = json!({"embed_dim": 1_048_576, "num_heads": 4});
    }));
    assert!(message.contains("is of a model of width 1048576, this one has 16; its number"), "{message}");
    assert!(start.elapsed().as_secs() < 20);
}

/// The heads that self-supervised models are trained with aren't needed.
#[test]
fn heads_of_pretraining_are_left_out() -> Result<()> {
    let extra = ["head.mlp.0.weight", "head.last_layer.weight_g"];
    let dino = changed("timm", |checkpoint| {
        checkpoint.tensors.0.retain(|(name, _)| !name.starts_with("head."));
        extra.iter().for_each(|name| set(checkpoint, name, Some(zeros(&[3, 16]))));
    })?;
    assert!(dino.notes[0].contains("left out (2): head.mlp.0.weight, head.last_layer.weight_g"), "{:?}", dino.notes);
    assert!(matches!(dino.architecture, Architecture::Vit(ViTConfig { n_classes: 16, .. })));
    let masked = changed("vit", |checkpoint| {
        set(checkpoint, "vit.embeddings.mask_token", Some(zeros(&[1, 1, 16])));
        set(checkpoint, "vit.pooler.dense.weight", Some(zeros(&[16, 16])));
    })?;
    assert!(masked.notes[0].contains("embeddings.mask_token, pooler.dense.weight"), "{:?}", masked.notes);
    Ok(())
}

#[test]
fn a_model_with_registers_is_explained() -> Result<()> {
    let learner = learner("dinov2_features", Some(24))?;
    let images = expected("images/24");
    let prefix = learner.network().prefix_tokens()?;
    let heatmap = Heatmap { prefix_tokens: prefix, image_size: 24, ..Heatmap::default() };
    let (rows, logits) = learner.rollout(&images, &Rollout::default(), Query::Class)?;
    assert_eq!((rows.size(), logits.size()), (vec![1, 4 + 36], vec![1, 16]));
    let maps = heatmap.maps_of_rows(&rows)?;
    assert_eq!(maps.shape(), [1, 24, 24]);

    // The registers' columns are no pixels: a map of the patches' columns alone is the same.
    let (_, attention) = learner.attention(&images)?;
    let matrix = rollout(&attention, &Rollout::default())?;
    let patches = matrix.select(1, 0).narrow(1, 4, 36).view([1, 1, 6, 6]);
    let upsampled = patches.upsample_bilinear2d([24, 24], false, None, None).squeeze_dim(1);
    let scaled = &upsampled / upsampled.amax([1i64, 2].as_slice(), true);
    assert!(apart(&Tensor::try_from(maps)?.to_kind(Kind::Double), &scaled) < 1e-6);

    let (heads, layers) = learner.network().forward(&images, false)?;
    let weighted = gradient_attention(&heads[0], &layers, &Target::Predicted)?;
    for matrix in [relevance(&weighted)?, rollout(&weighted, &Rollout::default())?] {
        let maps = heatmap.maps_of_rows(&row(&matrix, Query::Class, prefix)?)?;
        assert!(maps.iter().all(|value| value.is_finite()) && maps.iter().any(|value| *value > 0.0));
    }
    // A register isn't a distillation token, and a model of patches has no class token.
    let refused = |learner: &Learner, query| refusal(learner.rollout(&images, &Rollout::default(), query));
    assert!(refused(&learner, Query::Distillation).contains("there is no distillation token"));
    let patches = self::learner("timm_patches", Some(24))?;
    assert!(refused(&patches, Query::Class).contains("there is no class token"));
    assert!(patches.rollout(&images, &Rollout::default(), Query::Token(4)).is_ok());
    let deit = self::learner("deit", Some(24))?;
    assert!(deit.rollout(&images, &Rollout::default(), Query::Distillation).is_ok());
    Ok(())
}

/// Parts of a rollout, each of a few images, give the rows of all at once.
#[test]
fn a_rollout_in_parts_is_the_rollout() -> Result<()> {
    let learner = learner("dinov2_features", Some(64))?; // 260 tokens: 248 images a pass
    let images = Tensor::randn([250, 3, 64, 64], (Kind::Float, Device::Cpu));
    let (rows, logits) = learner.rollout(&images, &Rollout::default(), Query::Class)?;
    assert_eq!((rows.size(), logits.size()), (vec![250, 260], vec![250, 16]));
    let (last, _) = learner.rollout(&images.narrow(0, 249, 1), &Rollout::default(), Query::Class)?;
    assert!(apart(&rows.narrow(0, 249, 1), &last) < 1e-6);
    Ok(())
}

#[test]
fn a_checkpoint_of_nothing_known_is_named() {
    let tensors = StateDict(vec![("a".to_string(), zeros(&[1])), ("b".to_string(), zeros(&[1]))]);
    let checkpoint = Checkpoint { tensors, path: "other.pt".into(), ..Checkpoint::default() };
    let message = refusal(understand(checkpoint, None, None));
    assert_eq!(message, "other.pt: holds no model of vitlab: its first tensors are a, b");
}

/// The patches' tokens are compared in tests/test_pretrained.py.
#[test]
fn tokens_are_those_that_the_head_gets() -> Result<()> {
    for (name, prefix) in CASES {
        let learner = learner(name, None)?;
        let images = expected("images/16");
        let (tokens, layers) = (learner.tokens(&images)?, learner.layer_tokens(&images)?);
        let count = prefix + (TRAINED / 4).pow(2);
        assert_eq!(tokens.size(), [2, count, 16], "{name}");
        assert_eq!(layers.size(), [2, 3, count, 16], "{name}");
        assert!(!tokens.requires_grad() && !layers.requires_grad());
        let Network::Vit(model) = learner.network() else { continue };
        let logits = match model.config.structure.pool {
            // Only the mean of the patches is normalised.
            Pool::PatchesBeforeNorm => {
                assert_eq!(apart(&tokens, &layers.select(1, 2)), 0.0, "{name}");
                continue;
            }
            _ => model.classifier.forward(&tokens),
        };
        let error = apart(&logits, &expected(&format!("{name}/16/logits")));
        assert!(error < 1e-5 * logits.abs().max().double_value(&[]), "{name}: {error}");
    }
    let cnn = Learner::create(vitlab::learner::ModelKind::Cnn, &Config::default(), Device::Cpu)?;
    assert!(refusal(cnn.tokens(&Tensor::zeros([1, 1, 28, 28], (Kind::Float, Device::Cpu)))).contains("no attention"));
    let vit = learner("vit", None)?;
    assert!(refusal(vit.layer_tokens(&expected("images/12"))).contains("this model needs [B, 3, 16, 16]"));
    Ok(())
}
