//! Dictionaries around a state dict: found, chosen, named; and everything beside them, which is skipped.

use super::*;

fn kinds(name: &str) -> [PathBuf; 3] {
    ["2.pt", "5.pt", "legacy.ckpt"].map(|ending| file(&format!("{name}.{ending}")))
}

#[test]
fn the_only_dictionary_of_tensors_is_found() {
    for name in
        ["state_dict", "model", "model_state_dict", "prefixes", "nested", "odd", "execute_beside", "execute_among"]
    {
        for path in kinds(name) {
            assert_content(&Checkpoint::open(&path, None).unwrap(), "weights");
        }
    }
    assert!(!Path::new("executed").exists());
}

#[test]
fn the_choice_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str| {
        let (good, _, said) = run(vitlab().arg("convert").arg(file(name)).arg(folder.path().join("out.safetensors")));
        assert!(good, "{said}");
        said
    };
    let message = said("model.5.pt");
    assert!(
        message.contains(r#"uses the 7 tensors of its entry "model" and skips "optimizer" (a dictionary)"#),
        "{message}"
    );
    assert!(message.contains(r#""args" (an object of the Python class argparse.Namespace, which was not executed)"#));
    let message = said("nested.5.pt");
    assert!(message.contains(r#"its entry "ema.module" and skips "step" (a number)"#), "{message}");
    let message = said("odd.5.pt");
    assert!(message.contains(r#"skips "epoch" (a number), beside its tensors"#), "{message}");
}

#[test]
fn one_of_several_is_chosen_by_name() {
    for path in kinds("ema") {
        let message = refusal(&path, None);
        let choices = "--entry model (7 tensors), --entry model_ema (7 tensors)";
        assert!(message.contains("several dictionaries of tensors") && message.contains(choices), "{message}");
        assert_content(&Checkpoint::open(&path, Some("model")).unwrap(), "weights");
        assert_content(&Checkpoint::open(&path, Some("model_ema")).unwrap(), "other");
    }
    for path in kinds("dino") {
        let message = refusal(&path, None);
        assert!(message.contains("--entry student (14 tensors), --entry teacher (14 tensors)"), "{message}");
        assert_content(&Checkpoint::open(&path, Some("teacher.backbone")).unwrap(), "weights");
        assert_content(&Checkpoint::open(&path, Some("teacher.head")).unwrap(), "other");
        assert_content(&Checkpoint::open(&path, Some("student.module.head")).unwrap(), "other");
        let student = Checkpoint::open(&path, Some("student")).unwrap();
        let names: Vec<&str> = student.tensors.0.iter().map(|(name, _)| &name[..]).collect();
        assert!(names.contains(&"backbone.fc.weight") && names.contains(&"head.fc.weight"), "{names:?}");
    }
    for path in kinds("nested") {
        for entry in ["ema", "ema.module"] {
            assert_content(&Checkpoint::open(&path, Some(entry)).unwrap(), "weights");
        }
        let message = refusal(&path, Some("model"));
        assert!(
            message.contains(r#"no tensors in an entry "model""#) && message.contains("--entry ema.module"),
            "{message}"
        );
    }
    // A module of a plain state dict, whatever the format.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.safetensors");
    Checkpoint::open_unchanged(file("dino.5.pt"), Some("teacher")).unwrap().write(&copy).unwrap();
    assert_content(&Checkpoint::open(&copy, Some("backbone")).unwrap(), "weights");
    assert!(refusal(&copy, Some("tail")).contains(r#"no tensors in an entry "tail""#));
    let dense = Checkpoint::open(file("arrays.npz"), Some("fc")).unwrap();
    assert_eq!(dense.tensors.get("weight").unwrap().size(), [3, 4]);
}

#[test]
fn an_odd_tensor_is_named() {
    for path in kinds("sparse_among") {
        let message = refusal(path, None);
        assert!(message.contains("unsupported type (torch._utils._rebuild_sparse_tensor), mask"), "{message}");
    }
}

#[test]
fn tensors_with_attributes() {
    for path in kinds("attributes") {
        let found = Checkpoint::open(path, None).unwrap();
        for name in ["tensor", "parameter"] {
            assert_eq!(found.tensors.get(name), Some(&vitlab::tch::Tensor::from_slice(&[1.0_f32; 3])), "{name}");
        }
    }
}
