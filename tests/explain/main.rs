//! Attention rollout, gradient methods and heatmaps, compared with independent references in Python.

#[path = "../common/mod.rs"]
mod common;
mod evidence;
mod faithfulness;
mod gradients;
mod maps;
mod rollout;
mod statistics;

use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use vitlab::Result;
use vitlab::explain::{Heatmap, Query, Rollout};

/// Tensors that a script in tests/reference writes to the file that it gets as argument.
fn reference(script: &str) -> HashMap<String, Tensor> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("reference.safetensors");
    common::reference(script, &[&file]);
    Tensor::read_safetensors(&file).expect("a safetensors file").into_iter().collect()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

fn softmax_attention(size: [i64; 5]) -> Tensor {
    Tensor::randn(size, (Kind::Float, Device::Cpu)).g_mul_scalar(2.0).softmax(-1, Kind::Float)
}

fn refusal<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn options_go_to_json_and_back() {
    let options = rollout::options("max/0.9/row/1,4/compat");
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(
        text,
        r#"{"fusion":"max","discard_ratio":0.9,"discard_per":"row","layers":"1,4","normalisation":"compat"}"#
    );
    assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), options);
    let heatmap: Heatmap = serde_json::from_str(r#"{"query": "dist", "prefix_tokens": 2}"#).unwrap();
    assert_eq!(heatmap, Heatmap { query: Query::Distillation, prefix_tokens: 2, ..Heatmap::default() });
    assert!(serde_json::from_str::<Rollout>(r#"{"discard": 0.9}"#).is_err());
}
