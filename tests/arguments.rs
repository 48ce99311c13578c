//! Refusals of the command `vitlab`, tested within one process: each process of its own would load libtorch.

use std::sync::LazyLock;

use clap::Parser;

use super::{Arguments, run};

const VIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/ViT_model.pt");

/// Enters a folder with a configuration and a small teacher, once per process. Every test here calls it first.
fn enter_folder() {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::env::set_current_dir(folder.path()).expect("the folder");
        // SAFETY: every test of this process waits here first, so that no other thread reads the environment.
        unsafe { std::env::set_var("VITLAB_DATA", "synthetic") };
        let config = r#"{"EPOCHS": 1, "WARMUP_EPOCHS": 1, "BATCH_SIZE": 64, "TRAIN_IMAGES": 128, "TEST_IMAGES": 1000}"#;
        std::fs::write("small.json", config).expect("a file");
        run(parsed("train --model cnn --config small.json --out cnn").expect("an example")).expect("a teacher");
        folder
    });
    LazyLock::force(&FOLDER);
}

fn parsed(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(["vitlab"].into_iter().chain(line.split_whitespace()))
}

/// Returns the error of a line that clap or the command refuses.
#[track_caller]
fn refused(line: &str) -> String {
    let text = match parsed(line) {
        Err(error) => error.to_string(),
        Ok(arguments) => format!("error: {}", run(arguments).expect_err(line)),
    };
    assert!(!text.contains("panicked") && !text.contains("c10::"), "{line}: {text}");
    text
}

#[test]
fn bad_arguments_are_sentences() {
    enter_folder();
    for (line, expected) in [
        ("train --model deit --out x", "--teacher"),
        ("train --model vit --teacher cnn/teacher_model.pt", "a teacher (--teacher) goes with a deit only"),
        ("train --model vit --soft", "DISTILLATION soft (--soft) goes with a deit only"),
        ("train --model deit --teacher cnn/teacher_model.pt --lambda 0.5", "--soft"),
        (
            "train --model deit --teacher cnn/teacher_model.pt --soft --lambda 1.5",
            "LAMBDA is 1.5; it must be in [0, 1]",
        ),
        (
            "train --model deit --teacher cnn/teacher_model.pt --soft --tau 0",
            "TAU is 0; a temperature is a positive number",
        ),
        ("train --model rnn", "rnn"),
        ("train --model vit --config nowhere.json", "nowhere.json: can't be read"),
        ("train --model vit --device tpu", "device \"tpu\" is unknown"),
        ("train --model vit --epochs 0", "EPOCHS is 0"),
        ("train --model vit --data nowhere", "nowhere"),
        ("evaluate --weights small.json", "small.json"),
        ("evaluate --weights nowhere.pt", "nowhere.pt: can't be read"),
        ("predict --weights cnn/teacher_model.pt --out scores.pt", "--out must end in .safetensors"),
        ("predict --weights cnn/teacher_model.pt --attention --out s.safetensors", "a CNN has no attention"),
        ("predict --weights cnn/teacher_model.pt --range 5..5 --out s.safetensors", "is not a range"),
        (
            "predict --weights cnn/teacher_model.pt --range 0..1001 --out s.safetensors",
            "the test set has the images 0..1000",
        ),
        ("explain --weights cnn/teacher_model.pt --out m.png --range 0..2", "a CNN has no attention"),
        ("explain --weights cnn/teacher_model.pt --out m.jpg", "--out must end in .png, .html or .safetensors"),
        ("explain --weights cnn/teacher_model.pt --out m.png", "don't fit into a picture"),
        ("explain --weights cnn/teacher_model.pt --class 2 --out m.png --range 0..2", "a rollout has no class"),
        ("explain --weights x.pt --fusion median --out m.png", "unknown variant `median`"),
        ("explain --weights x.pt --image small.json --range 0..2 --out m.png", "cannot be used with"),
        ("explain --weights x.pt --range 0..2 --overlay dim --out m.safetensors", "--overlay is for a picture of maps"),
        ("explain --weights x.pt --range 0..2 --overlay bright --out m.png", "heat, dim, contours"),
        ("evaluate --weights cnn/teacher_model.pt --precision bfloat16", "bfloat16 is for a ViT or a DeiT on the CPU"),
        (
            "explain --weights x.pt --precision bfloat16 --method relevance --out m.png",
            "--precision goes with --method rollout",
        ),
        ("explain --weights x.pt", "--out <FILE"),
        ("explain --weights x.pt --json e.json --out m.png", "--faithfulness"),
        ("explain --weights x.pt --sample 5 --out m.png", "--faithfulness"),
        ("explain --weights x.pt --faithfulness --sample 0", "0 is not in 1.."),
        ("explain --weights x.pt --faithfulness --baseline black", "unknown variant `black`"),
        ("explain --weights x.pt --auto --json evidence.txt", "evidence.txt: --json must end in .json"),
        ("explain --weights x.pt --auto --fusion max", "cannot be used with"),
        ("explain --weights x.pt --auto --layers all", "cannot be used with"),
        ("explain --weights x.pt --auto --method relevance", "cannot be used with"),
        ("explain --weights x.pt --auto --faithfulness", "cannot be used with"),
        ("explain --weights x.pt --auto --precision bfloat16", "leave --precision out"),
        ("explain --weights cnn/teacher_model.pt --faithfulness --range 0..4", "a CNN has no attention"),
        ("explain --weights cnn/teacher_model.pt --auto --range 0..4", "a CNN has no attention"),
        ("convert cnn/teacher_model.pt model.onnx", "model.onnx"),
        ("predict --weights cnn/teacher_model.pt --image nowhere.png", "nowhere.png: is not found; check the name"),
        ("predict --weights cnn/teacher_model.pt --image small.json", "small.json: is not a picture; give a PNG,"),
        ("predict --weights cnn/teacher_model.pt --range -5..3", "\"-5..3\" is not a range; write A..B"),
        ("predict --weights cnn/teacher_model.pt --range 7", "\"7\" is not a range; write A..B"),
        ("predict --weights cnn/teacher_model.pt --top 0", "0 is not in 1..=1000"),
        ("predict --weights cnn/teacher_model.pt --attention", "--out <FILE.safetensors>"),
        ("predict --weights cnn/teacher_model.pt --invert yes", "--image"),
        ("predict --weights cnn/teacher_model.pt --heads 0", "0 is not in 1..=1024"),
        ("predict --weights cnn/teacher_model.pt --tensor small.json", "small.json"),
        (
            "explain --weights cnn/teacher_model.pt --method relevance --class Shoe --out m.png --range 0..2",
            "--class Shoe: the model has the classes 0 T-shirt/top, 1 Trouser,",
        ),
        (
            "explain --weights cnn/teacher_model.pt --method relevance --class 10 --out m.png --range 0..2",
            "--class 10: the model has the classes 0 T-shirt/top,",
        ),
    ] {
        let said = refused(line);
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn options_of_another_method_are_refused() {
    enter_folder();
    for (options, expected) in [
        ("--method attention --class 3", "--class goes with --method grad-rollout, relevance, grad-cam or attn-lrp"),
        ("--method attention --discard 0.5", "attention is shown as it is, of one head"),
        ("--method attention --fusion max", "attention is shown as it is, of one head"),
        ("--method attention --layers 0..2", "attention shows one layer; give --layers N"),
        ("--method attention --layers 0,2", "attention shows one layer; give --layers N"),
        ("--method attention --layers 9", "layer 9: this model has 6 layers, 0 to 5"),
        ("--method attention --head 4", "head 4: this model has 4 heads, 0 to 3"),
        ("--method attention --head -1", "unexpected argument"),
        ("--method attention --head=-1", "\"-1\" is no head; write its number, or each"),
        ("--method attention --head all", "\"all\" is no head; write its number, or each"),
        ("--method attention --precision bfloat16", "--precision goes with --method rollout"),
        ("--method attention --token dist", "there is no distillation token"),
        ("--method rollout --head 1", "--head goes with --method attention"),
        ("--head each", "--head goes with --method attention"),
        ("--method relevance --head 1", "--head goes with --method attention"),
        ("--method relevance --layers 0..2", "relevance and attn-lrp use all layers as they are"),
        ("--method grad-cam --layers 5", "grad-cam the last one"),
        ("--method grad-cam --token 3", "--token goes with methods that show a token's attention"),
        ("--method grad-cam --precision bfloat16", "--precision goes with --method rollout"),
        ("--method attn-lrp --compat", "--compat go with a rollout"),
        ("--method attn-lrp --token dist", "--token goes with methods that show a token's attention"),
        ("--method attn-lrp --class 10", "--class 10: the model has the classes 0 T-shirt/top,"),
        ("--method lime", "attn-lrp"),
    ] {
        let said = refused(&format!("explain --weights {VIT} --range 0..2 {options} --out m.png"));
        assert!(said.contains(expected), "{options}: {said}");
    }
    for method in ["attention --head each", "grad-cam", "attn-lrp", "relevance"] {
        let line = format!("explain --weights {VIT} --range 0..1 --method {method} --out page.html");
        assert!(refused(&line).contains("a page shows one image, and its rollout"), "{method}");
    }
}

#[test]
fn every_argument_has_help() {
    enter_folder();
    for command in ["predict", "explain", "evaluate"] {
        let help = parsed(&format!("{command} --help")).err().expect("clap returns help as an error").to_string();
        let lines: Vec<&str> = help.lines().collect();
        let options = lines.windows(2).filter(|pair| pair[0].starts_with("      --")).collect::<Vec<_>>();
        assert!(options.len() > 4, "{help}");
        for pair in options {
            let text = pair[1].trim();
            assert!(!text.is_empty() && !text.starts_with(['-', '[']), "{command}: {}", pair[0]);
        }
    }
}
