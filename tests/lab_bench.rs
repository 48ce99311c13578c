//! `cargo lab bench` with the smallest settings: its numbers exist and are positive. Their values depend on the machine.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use lab::system::Repository;
use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let repository = Repository::containing(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("bench")
        .args(arguments)
        .current_dir(repository.root)
        .env_remove(vitlab_dataset::source::VARIABLE)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn positive(value: &Value, pointers: &[&str]) {
    for pointer in pointers {
        let number = value.pointer(pointer).and_then(Value::as_f64);
        assert!(
            number.is_some_and(|number| number > 0.0 && number.is_finite()),
            "{pointer} is {number:?} in {value:#}"
        );
    }
}

#[test]
#[ignore = "long: more than a minute"]
fn training_and_explaining_are_measured_beside_pytorch() {
    let output = bench(&["train", "explain", "--quick", "--rounds", "1", "--steps", "1", "--images", "20", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    positive(
        &result,
        &[
            "/ratio/eager/end_to_end",
            "/ratio/eager/deit",
            "/ratio/eager/cnn",
            "/ratio/eager/cnn-bfloat16",
            "/ratio/eager/deit-matching",
            "/to_accuracy/85/epochs/median",
            "/to_accuracy/85/ours/median",
            "/to_accuracy/85/eager/median",
            "/ratio/expert/end_to_end",
            "/ratio/expert/deit",
            "/ratio/expert/cnn",
            "/ratio/eager/range/end_to_end/0",
            "/ratio/explain/batch",
            "/ratio/explain/one_by_one",
            "/train/floor/gflops",
            "/explain/batch/images_per_second/median",
            "/explain/loop/images_per_second/median",
            "/machine/cores",
        ],
    );
    for (model, side) in [("vit", "ours"), ("deit", "ours"), ("cnn", "eager")] {
        for field in ["step_seconds", "epoch_seconds", "images_per_second"] {
            positive(&result, &[&format!("/train/models/{model}/{side}/{field}/median")]);
        }
    }
    positive(&result, &["/train/models/vit/ours/share_of_floor", "/train/models/vit/eager/share_of_floor"]);
    for field in ["/versions/torch", "/versions/rustc", "/machine/cpu", "/date"] {
        let text = result.pointer(field).and_then(Value::as_str);
        assert!(text.is_some_and(|text| !text.is_empty()), "{field}");
    }
    let notes = result["train"]["notes"].to_string();
    assert!(notes.contains("--quick"));
    // The ViT's row in bfloat16 needs a processor with AVX512-BF16.
    if !notes.contains("AVX512-BF16") {
        positive(&result, &["/ratio/eager/vit-bfloat16", "/train/models/vit-bfloat16/ours/step_seconds/median"]);
    }
    // timm is measured where it is installed.
    if let Some(vits) = result.pointer("/ratio/explain_vits").and_then(Value::as_object) {
        assert_eq!(vits.len(), 4);
        for name in vits.keys() {
            positive(&result, &[&format!("/ratio/explain_vits/{name}/speed")]);
        }
    }
}

#[test]
fn a_wrong_setting_is_refused() {
    for arguments in [["train", "--steps", "0"], ["explain", "--images", "10001"]] {
        let output = bench(&arguments);
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("is not in"), "{said}");
    }
}
