//! The command `vitlab` as a user types it, on the generated stand-in data.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use image::{GrayImage, imageops};
use tch::{Device, Kind, Tensor};
use vitlab::checkpoint::{self, StateDict};
use vitlab::data::{CLASSES, Dataset, Source, Split, pretrained};

/// `vitlab` with the words of `line` in `folder`.
fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitlab"));
    command.args(line.split_whitespace()).current_dir(folder).env("VITLAB_DATA", "synthetic");
    command
}

fn vitlab(folder: &Path, line: &str) -> Output {
    command(folder, line).output().expect("the command starts")
}

/// Standard output of a successful run.
fn printed(folder: &Path, line: &str) -> String {
    let output = vitlab(folder, line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Standard error of a failing run: a sentence, a status that is not 0 and no trace of libtorch.
fn refused(folder: &Path, line: &str) -> String {
    let output = vitlab(folder, line);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{line}: {:?} {text}", output.status);
    assert!(text.starts_with("error: ") && !text.contains("panicked") && !text.contains("c10::"), "{line}: {text}");
    text
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    checkpoint::read(path).expect("a file just written").0.into_iter().collect()
}

/// Two epochs of a small network; the configuration is written as a user would write it.
fn folder_with_configuration() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = r#"{"EPOCHS": 2, "WARMUP_EPOCHS": 1, "BATCH_SIZE": 64, "LR": 2e-3, "EMBED_DIM": 32, "N_ATTENTION_HEADS": 4,
        "N_LAYERS": 2, "PATCH_SIZE": 4, "TRAIN_IMAGES": 512, "TEST_IMAGES": 1000}"#;
    std::fs::write(folder.path().join("small.json"), config).expect("a file");
    folder
}

#[test]
fn train_evaluate_predict_explain_convert() {
    let temporary = folder_with_configuration();
    let folder = temporary.path();
    for (model, stem, more) in [
        ("cnn", "teacher_model", ""),
        ("vit", "ViT_model", ""),
        ("deit", "DeiT_model", "--teacher cnn/teacher_model.pt"),
    ] {
        let out = printed(folder, &format!("train --model {model} --config small.json --seed 5 --out {model} {more}"));
        assert!(out.contains("synthetic") && out.contains("epoch  2"), "{out}");
        let history = std::fs::read_to_string(folder.join(model).join(format!("{stem}.json"))).expect("a history");
        let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
        assert_eq!(history["config"]["SEED"], 5);
        assert_eq!(history["origin"]["synthetic"], true);

        let json = printed(folder, &format!("evaluate --weights {model}/{stem}.pt --json"));
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["results"][0]["accuracy"], history["epochs"][1]["test_accuracy"]);
        assert_eq!(json["results"].as_array().map(Vec::len), Some(if model == "deit" { 3 } else { 1 }));

        printed(folder, &format!("convert {model}/{stem}.pt copy.safetensors"));
        let (original, copy) =
            (tensors(&folder.join(model).join(format!("{stem}.pt"))), tensors(&folder.join("copy.safetensors")));
        assert_eq!(original, copy);
    }

    printed(folder, "predict --weights deit/DeiT_model.pt --range 10..30 --attention --out scores.safetensors");
    let scores = tensors(&folder.join("scores.safetensors"));
    assert_eq!(scores["attention"].size(), [20, 2, 4, 51, 51]);
    let mean = (&scores["logits_class"] + &scores["logits_dist"]) / 2.0;
    assert_eq!(scores["logits"], mean);
    printed(folder, "predict --weights deit/DeiT_model.pt --range 10..30 --out scores.safetensors");
    let alone = tensors(&folder.join("scores.safetensors"));
    assert_eq!(alone.len(), 3);
    let apart = (&alone["logits_dist"] - &scores["logits_dist"]).abs().max();
    assert!(apart.double_value(&[]) < 1e-4, "{apart}");

    for options in [
        "",
        "--method relevance --class 3",
        "--method grad-rollout --discard 0.5",
        "--compat --fusion max --discard 0.9",
    ] {
        printed(folder, &format!("explain --weights vit/ViT_model.pt --range 0..7 {options} --out maps.safetensors"));
        let maps = tensors(&folder.join("maps.safetensors"));
        assert_eq!(maps["maps"].size(), [7, 28, 28]);
        assert_eq!(maps["grid"].size(), [7, 7, 7]);
        assert!(maps["maps"].max().double_value(&[]) <= 1.0 + 1e-6, "scaled by the maximum");
    }
    printed(folder, "explain --weights deit/DeiT_model.pt --token dist --range 0..6 --out maps.png");
    assert!(std::fs::read(folder.join("maps.png")).expect("a picture").starts_with(b"\x89PNG"));
    // The picture just written serves as a picture file of another size.
    printed(folder, "explain --weights vit/ViT_model.pt --image maps.png --layers 1 --out again.png");
}

#[test]
fn a_killed_training_resumes_to_the_same_weights() {
    let temporary = folder_with_configuration();
    let folder = temporary.path();
    let train = |more: &str| format!("train --model vit --config small.json --epochs 3 --threads 1 {more}");
    printed(folder, &train("--out whole"));
    let mut child = command(folder, &train("--out parts")).stdout(Stdio::piped()).spawn().expect("the command starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // The line of epoch 2 comes before its checkpoint, so the one of epoch 1 is there.
    let _ = lines.map_while(Result::ok).find(|line| line.starts_with("epoch  2"));
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    assert!(!folder.join("parts/ViT_model.pt").exists());

    let unfinished = refused(folder, &train("--out parts"));
    assert!(unfinished.contains("add --resume to continue it"), "{unfinished}");
    let other = refused(folder, &train("--out parts --resume --seed 9"));
    assert!(other.contains("another configuration (SEED: 9 here, 42 there)"), "{other}");
    let out = printed(folder, &train("--out parts --resume"));
    assert!(out.contains("resuming after 1 epochs") || out.contains("resuming after 2 epochs"), "{out}");
    let [whole, parts] = ["whole", "parts"].map(|name| tensors(&folder.join(name).join("ViT_model.pt")));
    assert_eq!(whole, parts);
}

#[test]
fn a_softly_distilled_student_says_so() {
    let temporary = folder_with_configuration();
    let folder = temporary.path();
    for line in [
        "train --model cnn --config small.json --epochs 1 --out cnn",
        "train --model deit --teacher cnn/teacher_model.pt --soft --tau 2 --lambda 0.5 --config small.json --epochs 1 --out soft",
    ] {
        printed(folder, line);
    }
    let history = std::fs::read_to_string(folder.join("soft/DeiT_model.json")).expect("a history");
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    let recipe = history["made_with"]["recipe"].as_str().unwrap_or_default();
    assert!(recipe.starts_with("DeiT_model, soft (2, 0.5) distillation, teacher "), "{recipe}");
    let json = printed(folder, "evaluate --weights soft/DeiT_model.pt --json");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for (i, head) in ["class accuracy", "distillation accuracy"].iter().enumerate() {
        assert_eq!(history["scores"][head], json["results"][i + 1]["accuracy"]);
    }
}

/// A teacher whose weights are gone is trained again, a history that is there is kept, and nothing is trained twice.
#[test]
fn a_plan_is_trained_and_continued() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let small = r#""EPOCHS": 1, "WARMUP_EPOCHS": 1, "BATCH_SIZE": 64, "EMBED_DIM": 32, "N_LAYERS": 1, "TRAIN_IMAGES": 128, "TEST_IMAGES": 100"#;
    let plan = format!(
        r#"[{{"name": "teacher", "model": "cnn", "seeds": [1, 2], "config": {{{small}}}}},
            {{"name": "match", "model": "vit", "teachers": ["teacher/1", "teacher/2"], "seeds": [7],
              "config": {{{small}, "DISTILLATION": "match", "OPTIMIZER": "muon", "AVERAGE_DECAY": 0.5}}}},
            {{"name": "of_file", "model": "deit", "teachers": ["outputs/evidence/teacher/seed1/teacher_model.pt"], "seeds": [7],
              "config": {{{small}, "DISTILLATION": "match"}}}}]"#
    );
    std::fs::write(folder.join("plan.json"), plan).expect("a file");
    let listed = printed(folder, "evidence --plan plan.json --list");
    let missing = |run: &str, count: i64, seeds: &str| {
        let done = |name: &str| format!("0 of {count} seeds are {name} (missing: {seeds})");
        format!("{run}: {}, {}\n", done("trained"), done("measured"))
    };
    assert_eq!(listed, missing("teacher", 2, "1, 2") + &missing("match", 1, "7") + &missing("of_file", 1, "7"));
    let first = printed(folder, "evidence --plan plan.json --only teacher");
    assert!(first.contains("--- teacher, seed 1") && first.contains("--- teacher, seed 2"), "{first}");
    std::fs::remove_dir_all(folder.join("outputs/evidence/teacher/seed2")).expect("the weights");
    let of_teacher = || ["", ".measures"].map(|kind| json(&folder.join(format!("teacher/seed2{kind}.json"))));
    let before = of_teacher();
    let rest = printed(folder, "evidence --plan plan.json");
    assert!(rest.contains("match needs the weights of teacher, seed 2"), "{rest}");
    // The same seed on the same machine: the same network, whose history and measures stay.
    assert!(rest.contains("teacher, seed 2, has the scores of its history, which stays"), "{rest}");
    assert_eq!(before, of_teacher());
    assert!(!rest.contains("--- teacher, seed 1") && rest.contains("--- match, seed 7"), "{rest}");
    // With the checkpoint as its teacher.
    let measures = json(&folder.join("of_file/seed7.measures.json"));
    assert!(measures["heads"]["teacher"]["accuracy"].is_number(), "{measures}");
    let history = json(&folder.join("match/seed7.json"));
    assert_eq!((&history["config"]["SEED"], &history["config"]["OPTIMIZER"]), (&7.into(), &"muon".into()));
    let recipe = history["made_with"]["recipe"].as_str().expect("a recipe");
    assert!(recipe.starts_with("ViT_model, matching (3) distillation, teacher ") && recipe.contains(", "), "{recipe}");
    let evaluated = printed(folder, "evaluate --weights outputs/evidence/match/seed7/ViT_model.pt --json");
    let evaluated: serde_json::Value = serde_json::from_str(&evaluated).expect("JSON");
    assert_eq!(evaluated["results"].as_array().map(Vec::len), Some(1));
    assert!(!printed(folder, "evidence --plan plan.json").contains("---"));
    assert!(
        refused(folder, "evidence --plan plan.json --only student")
            .contains("the plan has the runs teacher, match, of_file")
    );
    std::fs::write(folder.join("plan.json"), r#"[{"name": "a", "model": "deit", "teachers": ["b"], "seeds": [1]}]"#)
        .expect("a file");
    let unknown = refused(folder, "evidence --plan plan.json");
    assert!(unknown.contains("plan.json: run a: no run b of seed 1 stands before it"), "{unknown}");
}

#[test]
fn a_plan_is_trained_seed_by_seed_measured_and_reported() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let small = r#""EPOCHS": 1, "WARMUP_EPOCHS": 1, "BATCH_SIZE": 64, "EMBED_DIM": 32, "N_LAYERS": 2, "TRAIN_IMAGES": 100,
        "TRAIN_SELECTION": "balanced", "STEPS_PER_EPOCH": 2, "TEST_IMAGES": 100"#;
    let plan = format!(
        r#"[{{"name": "teacher", "model": "cnn", "seeds": [1, 2], "config": {{{small}}}}},
            {{"name": "student", "model": "deit", "teachers": ["teacher"], "seeds": [1, 2], "config": {{{small}}}}},
            {{"name": "vit_untrained", "model": "vit", "seeds": [1], "untrained": true, "config": {{{small}}}}}]"#
    );
    std::fs::write(folder.join("plan.json"), plan).expect("a file");
    let out = printed(folder, "evidence --plan plan.json");
    let steps = out.lines().filter(|line| line.starts_with("---") || line.starts_with("measuring"));
    assert_eq!(
        steps.collect::<Vec<_>>(),
        [
            "--- teacher, seed 1",
            "measuring teacher, seed 1",
            "--- student, seed 1",
            "measuring student, seed 1",
            "measuring vit_untrained, seed 1",
            "--- teacher, seed 2",
            "measuring teacher, seed 2",
            "--- student, seed 2",
            "measuring student, seed 2",
        ]
    );
    let (history, measures) =
        (json(&folder.join("student/seed1.json")), json(&folder.join("student/seed1.measures.json")));
    assert_eq!(measures["accuracy"], history["epochs"][0]["test_accuracy"]);
    for (head, name) in [("class", "class accuracy"), ("distillation", "distillation accuracy")] {
        assert_eq!(measures["heads"][head], history["scores"][name]);
    }
    assert_eq!(measures["heads"]["teacher"]["class_agreement"], history["scores"]["class agreement"]);

    // Measures are taken afterwards where the weights are there.
    for seed in 1..=2 {
        std::fs::remove_file(folder.join(format!("teacher/seed{seed}.measures.json"))).expect("a file");
    }
    std::fs::remove_dir_all(folder.join("outputs/evidence/teacher/seed2")).expect("the weights");
    let listed = printed(folder, "evidence --plan plan.json --only teacher --seeds 1 --list");
    assert_eq!(listed, "teacher: 1 of 1 seeds are trained, 0 of 1 seeds are measured (missing: 1)\n");
    let again = vitlab(folder, "evidence --plan plan.json");
    let note = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        note.contains(
            "note: teacher, seed 2, can't be measured: outputs/evidence/teacher/seed2/teacher_model.safetensors"
        ),
        "{note}"
    );
    assert!(
        folder.join("teacher/seed1.measures.json").exists() && !folder.join("teacher/seed2.measures.json").exists()
    );
    assert!(refused(folder, "evidence --plan plan.json --seeds 3").contains("--seeds 3: the plan has the seeds 1, 2"));

    let page = "# Page\n<!-- table: accuracies -->\n<!-- end -->\n<!-- table: tokens -->\n<!-- end -->\n";
    std::fs::write(folder.join("page.md"), page).expect("a file");
    let report = "evidence --plan plan.json --report --page page.md";
    assert!(refused(folder, &format!("{report} --check")).contains("page.md: has other tables than"));
    assert!(printed(folder, report).contains("written: page.md"));
    let written = std::fs::read_to_string(folder.join("page.md")).expect("the page");
    assert!(written.contains("\n| student | 2 of 2 | ") && !written.contains("not measured yet"), "{written}");
    assert!(printed(folder, &format!("{report} --check")).contains("its tables are those of"));
    std::fs::write(folder.join("page.md"), page.replace("accuracies", "accuracy")).expect("a file");
    assert!(
        refused(folder, report).contains(
            "page.md: there is no table accuracy of the evidence; the tables are runs, machines, accuracies, "
        )
    );
    assert_eq!(
        std::fs::read_to_string(folder.join("page.md")).expect("the page"),
        page.replace("accuracies", "accuracy")
    );
}

const VIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/ViT_model.pt");

/// Writes an image of the stand-in's test set, dark on white as a product photo.
fn product_photo(path: &Path, index: i64) {
    let data = Dataset::read(&Source::Synthetic, Split::Test, Device::Cpu).expect("the stand-in");
    let bytes = Vec::<u8>::try_from(data.images.get(index).contiguous().view([-1])).expect("bytes");
    let mut garment = GrayImage::from_raw(28, 28, bytes).expect("28 × 28");
    imageops::invert(&mut garment);
    garment.save(path).expect("a file");
}

#[test]
fn pictures_have_a_class_and_its_probability() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    std::fs::create_dir(folder.join("photos")).expect("a folder");
    for (name, index) in [("b.png", 1), ("a.png", 0)] {
        product_photo(&folder.join("photos").join(name), index);
    }
    std::fs::write(folder.join("photos/notes.txt"), "no picture").expect("a file");
    let output = vitlab(folder, &format!("predict --weights {VIT} --image photos --out scores.safetensors"));
    let [out, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{said}");
    assert!(said.contains("skipped, not a picture: photos/notes.txt\n"), "{said}");
    assert!(said.contains("photos/a.png, photos/b.png: inverted, because the border is bright"), "{said}");

    // The same images of the data set have the same scores. Printed is the first class with its probability.
    let scores = tensors(&folder.join("scores.safetensors"))["logits"].shallow_clone();
    printed(folder, &format!("predict --weights {VIT} --range 0..2 --out originals.SAFETENSORS"));
    let apart = (&scores - &tensors(&folder.join("originals.SAFETENSORS"))["logits"]).abs().max();
    assert!(apart.double_value(&[]) < 1e-5, "{apart}");
    let (share, class) = scores.softmax(1, Kind::Double).max_dim(1, false);
    let line = |i: i64, name: &str| {
        format!("{name}: {} {:.1} %\n", CLASSES[class.int64_value(&[i]) as usize], 100.0 * share.double_value(&[i]))
    };
    let lines = line(0, "photos/a.png") + &line(1, "photos/b.png");
    assert!(out.starts_with(&lines) && out.contains("scores of 2 images"), "{out}");

    let out = printed(folder, &format!("predict --weights {VIT} --image photos/a.png --top 3"));
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(out.starts_with("photos/a.png\n") && out.lines().skip(1).all(|line| line.contains(" %  ")), "{out}");
    let kept = printed(folder, &format!("predict --weights {VIT} --image photos/a.png --invert no"));
    assert!(!lines.contains(kept.lines().next().expect("a line")), "{kept}");
    printed(folder, &format!("explain --weights {VIT} --image photos --method relevance --class dress --out maps.PNG"));
    assert!(std::fs::read(folder.join("maps.PNG")).expect("a picture").starts_with(b"\x89PNG"));
    // Each style is another picture.
    let pictures: Vec<Vec<u8>> = ["heat", "dim", "contours"]
        .iter()
        .map(|style| {
            printed(folder, &format!("explain --weights {VIT} --image photos --overlay {style} --out {style}.png"));
            std::fs::read(folder.join(format!("{style}.png"))).expect("a picture")
        })
        .collect();
    assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2]);
}

#[test]
fn tensors_of_another_program_are_images() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let data = Dataset::read(&Source::Synthetic, Split::Test, Device::Cpu).expect("the stand-in");
    let write = |name: &str, tensor: &str, images: Tensor| {
        checkpoint::write(folder.join(name), &StateDict(vec![(tensor.to_string(), images)])).expect("a file");
    };
    let images = data.normalised(&Tensor::from_slice(&[0i64, 1, 2]));
    write("images.safetensors", "images", images.shallow_clone());
    for command in ["predict --attention", "explain --discard 0.5"] {
        let [tensor, range] = ["--tensor images.safetensors", "--range 0..3"].map(|source| {
            printed(folder, &format!("{command} --weights {VIT} {source} --out result.safetensors"));
            tensors(&folder.join("result.safetensors"))
        });
        assert_eq!(tensor, range);
    }
    let out = printed(folder, &format!("predict --weights {VIT} --tensor images.safetensors"));
    assert_eq!(out.lines().filter(|line| line.starts_with("image ")).count(), 3, "{out}");
    printed(folder, &format!("explain --weights {VIT} --tensor images.safetensors --out maps.png"));

    write("other.safetensors", "pixels", images.shallow_clone());
    write("large.safetensors", "images", Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu)));
    write("bytes.safetensors", "images", Tensor::zeros([1, 1, 28, 28], (Kind::Uint8, Device::Cpu)));
    write("nan.safetensors", "images", Tensor::full([1, 1, 28, 28], f64::NAN, (Kind::Float, Device::Cpu)));
    for (file, problem) in [
        ("other", "has no tensor \"images\", only: pixels"),
        ("large", "its images are [1, 3, 32, 32]; the model takes [N, 1, 28, 28]"),
        ("bytes", "its images are whole numbers"),
        ("nan", "NaN or infinite"),
    ] {
        let said = refused(folder, &format!("predict --weights {VIT} --tensor {file}.safetensors"));
        assert!(said.contains(problem) && said.contains(&format!("{file}.safetensors: ")), "{said}");
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

#[test]
fn a_map_is_measured_against_random_order() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let explain = format!("explain --weights {VIT} --range 0..40 --steps 7 --json e.json");
    let out = printed(folder, &format!("{explain} --fusion max --discard 0.9 --faithfulness --sanity --sample 12"));
    assert!(out.contains("12 of 40 images of synthetic stand-in") && out.contains("7 steps, baseline mean"), "{out}");
    assert!(out.contains("rollout max 0.9 all") && out.contains("\nrandom order  "), "{out}");
    assert!(out.contains("\nembedding: untrained"), "{out}");
    let written = json(&folder.join("e.json"));
    let rows = &written["faithfulness"]["compared"];
    assert_eq!(rows[0]["images"], 12);
    let difference = rows[0]["deletion"]["mean"].as_f64().unwrap() - rows[1]["deletion"]["mean"].as_f64().unwrap();
    assert!((rows[0]["deletion_against_random"]["mean"].as_f64().unwrap() - difference).abs() < 1e-9);
    assert!(rows[0]["score"]["error"].as_f64().unwrap() > 0.0);
    assert_eq!(written["faithfulness"]["trial"]["score"], "probability");
    assert_eq!(written["sanity"]["stages"].as_array().map(Vec::len), Some(9));
    assert_eq!(written["images"]["measured"], 12);

    // The probability is that of the class that is explained.
    for method in ["grad-rollout", "relevance"] {
        printed(
            folder,
            &format!("{explain} --method {method} --class dress --faithfulness --baseline blur --sample 3"),
        );
        assert_eq!(json(&folder.join("e.json"))["faithfulness"]["class"], 3);
    }
    // One picture has no standard error.
    product_photo(&folder.join("a.png"), 0);
    let out = printed(folder, &format!("explain --weights {VIT} --image a.png --faithfulness --steps 3 --out m.png"));
    assert!(out.contains("1 image of picture files") && out.contains("written to m.png"), "{out}");
    assert!(!out.contains("NaN") && out.lines().all(|line| !line.contains(" ± 0")), "{out}");
}

#[test]
fn options_are_chosen_by_evidence() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let auto = format!("explain --weights {VIT} --range 0..4 --auto --steps 3 --json e.json");
    let out = printed(folder, &format!("{auto} --sanity --out auto.safetensors"));
    assert!(out.contains("The choosing half, 2 images") && out.contains("The other half, 2 images"), "{out}");
    let written = json(&folder.join("e.json"));
    let auto = &written["auto"];
    let rollout = |value: &serde_json::Value| {
        let word = |name: &str| value[name].as_str().expect("a word").to_string();
        format!("--fusion {} --discard {} --layers {}", word("fusion"), value["discard_ratio"], word("layers"))
    };
    let rollouts = auto["rollouts"].as_array().expect("a list");
    let tried = auto["choosing_half"]["compared"].as_array().expect("a list");
    assert_eq!((rollouts.len(), tried.len()), (54, 55));
    assert_eq!(auto["choosing_half"]["lead"].as_array().map(Vec::len), Some(tried.len()));
    let score = |row: &serde_json::Value| row["score"]["mean"].as_f64().expect("a number");
    let best = (0..54).max_by(|&i, &j| score(&tried[i]).total_cmp(&score(&tried[j]))).expect("54 rollouts");
    assert_eq!(score(&tried[best]), score(&tried[rollouts.iter().position(|r| *r == auto["chosen"]).expect("one")]));
    let reported = auto["reporting_half"]["compared"].as_array().expect("a list");
    assert_eq!(reported.last().expect("rows")["name"], "random order");
    assert_eq!(auto["reporting_half"]["lead"].as_array().map(Vec::len), Some(reported.len()));
    assert_eq!(auto["trial"]["seed"], 42);
    assert_eq!(written["sanity"]["methods"][0], reported[0]["name"]);

    // The maps are those of the chosen options, which are printed as they are typed.
    let options = rollout(&auto["chosen"]).replace("0.0 ", "0 ");
    assert!(out.contains(&format!("chosen: {options}")), "{options}: {out}");
    printed(folder, &format!("explain --weights {VIT} --range 0..4 {options} --out typed.safetensors"));
    assert_eq!(tensors(&folder.join("auto.safetensors")), tensors(&folder.join("typed.safetensors")));

    let few = refused(folder, &format!("explain --weights {VIT} --range 0..3 --auto"));
    assert!(few.contains("give at least four"), "{few}");
}

/// Without AVX512-BF16, the error says so.
#[test]
fn bfloat16_changes_little() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let explain = format!("explain --weights {VIT} --range 0..40 --out maps.safetensors");
    let output = vitlab(folder, &format!("{explain} --precision bfloat16"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("AVX512-BF16") {
        assert!(!output.status.success());
        return;
    }
    assert!(output.status.success(), "{said}");
    let brief = tensors(&folder.join("maps.safetensors"));
    printed(folder, &explain);
    let apart = (&brief["maps"] - &tensors(&folder.join("maps.safetensors"))["maps"]).abs();
    let (mean, largest) = (apart.mean(Kind::Float), apart.max());
    assert!(mean.double_value(&[]) < 2e-3 && largest.double_value(&[]) < 0.05, "{mean} {largest}");
    assert!(largest.double_value(&[]) > 0.0);
}

#[test]
fn a_reader_that_has_enough_makes_no_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = command(folder.path(), &format!("evaluate --weights {VIT}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the command ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_pretrained_model_is_known_by_its_name() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let layouts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/layouts");
    let picture = layouts.join("../reference/pictures/large.png");
    let line = format!("predict --weights dinov2-small --image {} --tokens --out out.safetensors", picture.display());
    let run = || command(folder, &line).env("VITLAB_HOME", folder.join("home")).output().expect("the command starts");
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let missing = run();
    assert!(!missing.status.success());
    assert!(text(&missing).contains("isn't there; `cargo lab setup --pretrained` gets it"), "{}", text(&missing));

    // A small model of the same layout stands in.
    let model = pretrained::MODEL.folder(&folder.join("home"));
    std::fs::create_dir_all(&model).expect("a folder");
    std::fs::copy(layouts.join("dinov2_features.safetensors"), model.join("model.safetensors")).expect("a copy");
    let beside = std::fs::read_to_string(layouts.join("dinov2_features.json")).expect("a file");
    let beside: serde_json::Value = serde_json::from_str(&beside).expect("JSON");
    std::fs::write(model.join("config.json"), beside["config"].to_string()).expect("a file");
    let input = r#"{"size": {"height": 16, "width": 16}, "image_mean": 0.5, "image_std": 0.5}"#;
    std::fs::write(model.join("preprocessor_config.json"), input).expect("a file");
    let found = run();
    assert!(found.status.success(), "{}", text(&found));
    assert!(text(&found).contains(&format!("dinov2-small: is the model in {}", model.display())), "{}", text(&found));
    // Class token, 3 registers, 4 × 4 patches.
    let tokens = tensors(&folder.join("out.safetensors"));
    assert_eq!(tokens["tokens"].size(), [1, 20, 16]);
    let apart = (tokens["tokens"].select(1, 0) - &tokens["logits"]).abs().max();
    assert!(apart.double_value(&[]) < 1e-4, "{apart}");

    // A file of that name comes first.
    std::fs::write(folder.join("dinov2-small"), "no checkpoint").expect("a file");
    assert!(!text(&run()).contains("is the model in"));
}

#[test]
fn every_method_explains_by_the_command() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let explain = |options: &str, out: &str| {
        printed(folder, &format!("explain --weights {VIT} --range 0..3 {options} --out {out}"));
        folder.join(out)
    };
    let mut grids: Vec<Tensor> = Vec::new();
    for method in ["rollout", "attention", "grad-rollout", "relevance", "grad-cam", "attn-lrp"] {
        let picture = explain(&format!("--method {method}"), "maps.png");
        assert!(std::fs::read(picture).expect("a picture").starts_with(b"\x89PNG"), "{method}");
        let tensors = tensors(&explain(&format!("--method {method} --scale raw"), "maps.safetensors"));
        assert_eq!((tensors["maps"].size(), tensors["grid"].size()), (vec![3, 28, 28], vec![3, 7, 7]), "{method}");
        let grid = tensors["grid"].shallow_clone();
        assert!(grid.isfinite().all().int64_value(&[]) == 1 && grid.abs().max().double_value(&[]) > 0.0, "{method}");
        assert!(grids.iter().all(|other| *other != grid), "{method} has another method's map");
        grids.push(grid);
    }
    for method in ["grad-cam", "attn-lrp"] {
        let of = |class: &str| {
            tensors(&explain(&format!("--method {method} --class {class}"), "c.safetensors")).remove("grid")
        };
        assert!(of("Dress") == of("3") && of("3") != of("Bag"), "{method}");
    }
}

#[test]
fn maps_of_heads_are_written_together() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let explain = |options: &str, out: &str| {
        let line = format!("explain --weights {VIT} --method attention --range 0..3 {options} --out {out}");
        (printed(folder, &line), folder.join(out))
    };
    let (out, file) = explain("--head each --layers 2 --scale raw", "heads.safetensors");
    assert!(out.starts_with("3 × 4 maps ("), "{out}");
    let all = tensors(&file);
    assert_eq!((all["maps"].size(), all["grid"].size()), (vec![3, 4, 28, 28], vec![3, 4, 7, 7]));
    for head in 0..4 {
        let one = tensors(&explain(&format!("--head {head} --layers 2..3 --scale raw"), "head.safetensors").1);
        assert_eq!((&one["maps"], &one["grid"]), (&all["maps"].select(1, head), &all["grid"].select(1, head)));
    }
    let mean = tensors(&explain("--layers 2 --scale raw", "mean.safetensors").1).remove("grid").expect("the grid");
    let heads = all["grid"].mean_dim([1i64].as_slice(), false, None);
    assert!((mean - heads).abs().max().double_value(&[]) < 1e-6);
    let (_, picture) = explain("--head each", "heads.png");
    let picture = image::open(picture).expect("a picture");
    assert!(picture.width() > picture.height(), "three rows of five");
}

/// DINOv2 has no class head: the explained score is said, once.
#[test]
fn a_score_without_classes_is_said() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/layouts/dinov2.safetensors");
    image::RgbImage::from_fn(20, 20, |x, y| image::Rgb([(x * 12) as u8, (y * 12) as u8, 90]))
        .save(folder.join("p.png"))
        .expect("a file");
    let explain = |method: &str| {
        let line = format!("explain --weights {weights} --heads 2 --image p.png --method {method} --out m.safetensors");
        let output = vitlab(folder, &line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{method}: {said}");
        said.matches("the explained score is the similarity of its features").count()
    };
    for method in ["grad-rollout", "relevance", "grad-cam", "attn-lrp"] {
        assert_eq!(explain(method), 1, "{method}");
    }
    for method in ["rollout", "attention", "attention --head each", "relevance --class 3"] {
        assert_eq!(explain(method), 0, "{method}");
    }
}
