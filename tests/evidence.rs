//! The evidence page and its plans: the tables are those of the committed histories and measures.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vitlab::evidence::{Evidence, Plan, checkpoint_path, fill};
use vitlab::learner::ModelKind;
use vitlab::{Config, Result};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

#[test]
fn the_page_has_the_tables_of_the_committed_results() -> Result<()> {
    let evidence = Evidence::read(models().join("evidence"))?;
    let page = std::fs::read_to_string(models().join("EVIDENCE.md")).expect("the page is committed");
    assert!(page.matches("<!-- table: ").count() >= 15);
    let filled = fill(&page, |name| evidence.markdown(name))?;
    let first = page.lines().zip(filled.lines()).find(|(old, new)| old != new);
    assert_eq!(page, filled, "run `vitlab evidence --report`; the first line that differs: {first:?}");
    Ok(())
}

/// The texts such as "80.25 ± 1.07".
fn spreads(text: &str) -> Vec<String> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let parts = Vec::from_iter(text.split(" ± "));
    let spread = |pair: &[&str]| {
        let mean = pair[0].rsplit(|c| !is_number(c)).next().expect("at least one part");
        let deviation = pair[1].split(|c| !is_number(c)).next().expect("at least one part");
        format!("{mean} ± {}", deviation.trim_end_matches('.'))
    };
    parts.windows(2).map(spread).collect()
}

#[test]
fn what_the_readme_and_the_statements_quote_stands_in_the_tables() {
    assert_eq!(spreads("have 80.25 ± 1.07 %, or 1 ± 2. The"), ["80.25 ± 1.07", "1 ± 2"]);
    let page = std::fs::read_to_string(models().join("EVIDENCE.md")).expect("the page is committed");
    let readme = std::fs::read_to_string(models().join("../README.md")).expect("the README is committed");
    let (statements, tables) = page.split_once("## Runs").expect("the statements stand before the runs");
    let tables = spreads(tables);
    for text in [statements, &readme] {
        let quoted = spreads(text);
        assert!(quoted.len() >= 3);
        for spread in quoted {
            assert!(tables.contains(&spread), "no table has {spread}");
        }
    }
}

#[test]
fn the_committed_plans_can_be_trained() -> Result<()> {
    let plans = ["plan", "data", "trials"].map(|name| Plan::read(models().join(format!("evidence/{name}.json"))));
    let [plan, data, trials] = plans;
    let (plan, data, trials) = (plan?, data?, trials?);
    assert!(trials.runs.iter().all(|run| !run.is_measured()), "trials hold out validation images");
    assert!(plan.runs.iter().all(|run| run.is_measured()));
    let matching = plan.run("matching").expect("the recipe of 20 epochs");
    assert_eq!(matching.config(2)?, Config { seed: 2, ..Config::twenty_epochs() });
    let teachers = [&plan, &trials].map(|plan| plan.runs.iter().flat_map(|run| &run.teachers));
    let path = models().join("evidence/plan.json");
    let mut checkpoints =
        teachers.into_iter().flatten().filter_map(|teacher| checkpoint_path(&path, teacher)).peekable();
    assert!(checkpoints.peek().is_some() && checkpoints.all(|path| path.is_file()));
    // Both networks of a part of the data have the same images and steps.
    for vit in data.runs.iter().filter(|run| run.model == ModelKind::Vit) {
        let cnn = data.run(&vit.name.replace("vit", "cnn")).expect("a CNN beside each ViT");
        assert_eq!((cnn.config(1)?, &cnn.seeds), (vit.config(1)?, &vit.seeds));
    }
    Ok(())
}

/// A folder with a plan and histories with these accuracies: (run, seed, processor, accuracy).
fn results(plan: &str, networks: &[(&str, i64, &str, f64)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("plan.json"), plan).expect("a file");
    for (run, seed, processor, accuracy) in networks {
        let epoch = json!({"epoch": 1, "lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0,
            "test_accuracy": accuracy, "seconds": 1.0});
        let history = json!({
            "config": {"SEED": seed, "EPOCHS": 1, "WARMUP_EPOCHS": 1}, "origin": {},
            "made_with": {"device": format!("CPU: {processor}, 2 threads")}, "epochs": [epoch],
        });
        std::fs::create_dir_all(folder.path().join(run)).expect("a folder");
        write(&folder, run, *seed, &history);
    }
    folder
}

fn write(folder: &tempfile::TempDir, run: &str, seed: i64, history: &Value) {
    std::fs::write(folder.path().join(format!("{run}/seed{seed}.json")), history.to_string()).expect("a file");
}

const PLAN: &str = r#"[
    {"name": "vit", "model": "vit", "seeds": [1, 2, 3], "config": {"EPOCHS": 1, "WARMUP_EPOCHS": 1}},
    {"name": "teacher", "model": "cnn", "seeds": [1, 2, 3], "config": {"EPOCHS": 1, "WARMUP_EPOCHS": 1}},
    {"name": "student", "model": "deit", "teachers": ["teacher"], "seeds": [1, 2, 3], "config": {"EPOCHS": 1, "WARMUP_EPOCHS": 1}}
]"#;

fn row<'a>(table: &'a str, start: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.starts_with(&format!("| {start} |"))).expect("the row");
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn tables_by_hand() -> Result<()> {
    let folder = results(
        PLAN,
        &[
            ("vit", 1, "A", 0.80),
            ("vit", 2, "A", 0.81),
            ("vit", 3, "A", 0.85),
            ("student", 1, "A", 0.84),
            ("student", 2, "A", 0.85),
            ("student", 3, "B", 0.86),
        ],
    );
    let evidence = Evidence::read(folder.path().join("plan.json"))?;
    // Mean 82, standard deviation √7, t = 4.3027 for two degrees of freedom: 82 ± 6.57.
    let accuracies = evidence.markdown("accuracies")?;
    let expected = ["vit", "3 of 3", "82.00 ± 2.65", "75.43 to 88.57", "1: 80.00, 2: 81.00, 3: 85.00"];
    assert_eq!(row(&accuracies, "vit"), expected);
    assert_eq!(row(&accuracies, "teacher"), ["teacher", "0 of 3", "not trained yet", "", ""]);
    // Unpaired: 3 ± t(2.56) · √(1/3 + 7/3) = 3 ± 3.5154 · 1.6330. Pairs on the same machine: 4 and 4.
    let differences = evidence.markdown("differences")?;
    let expected = ["student − vit", "+3.00", "−2.74 to +8.74", "2.6", "2", "+4.00", "+4.00 to +4.00", "block"];
    assert_eq!(row(&differences, "student − vit"), expected);
    assert_eq!(row(&differences, "teacher − student")[1], "not trained yet");
    let machines = evidence.markdown("machines")?;
    assert_eq!(row(&machines, "1"), ["1", "CPU: A", "vit, student"]);
    assert!(machines.contains("| 3 | CPU: A | vit |\n| 3 | CPU: B | student |\n"), "{machines}");
    assert!(evidence.markdown("tokens")?.contains("| student | 0 | not measured yet |"));
    Ok(())
}

#[test]
fn a_notebook_shows_the_rows_of_the_page() -> Result<()> {
    let folder = results(PLAN, &[("vit", 1, "A", 0.80), ("vit", 2, "A", 0.81), ("vit", 3, "A", 0.85)]);
    let evidence = Evidence::read(folder.path())?;
    let table = evidence.table("accuracies")?;
    assert_eq!(table.title, "Test accuracy after the last epoch");
    assert_eq!(table.rows[0][..3], ["vit", "3 of 3", "82.00 ± 2.65"]);
    assert_eq!(table.rows[1], ["teacher", "0 of 3", "not trained yet"]);
    assert_eq!(table.markdown(), evidence.markdown("accuracies")?);
    assert_eq!(Vec::from_iter(evidence.accuracies("vit")?), [(1, 0.80), (2, 0.81), (3, 0.85)]);
    assert_eq!((evidence.histories("vit")?[&3].config.seed, evidence.histories("teacher")?.len()), (3, 0));
    assert!(evidence.measures("vit")?.is_empty());
    let unknown = evidence.accuracies("vits").unwrap_err().to_string();
    assert_eq!(unknown, "there is no run vits in the evidence; the runs are vit, teacher, student");
    // Each table of the page has a name that a notebook can ask for.
    let page = std::fs::read_to_string(models().join("EVIDENCE.md")).expect("the page is committed");
    let committed = Evidence::read(models().join("evidence"))?;
    for name in page.lines().filter_map(|line| line.strip_prefix("<!-- table: ")?.strip_suffix(" -->")) {
        let table = committed.table(name)?;
        assert!(!table.title.is_empty() && !table.header.is_empty(), "{name}");
        assert!(committed.markdown(name)?.ends_with(&table.markdown()), "{name}");
    }
    let trials = committed.table("trials")?.title;
    assert!(
        trials.starts_with("Trials on held-out training images: ") && trials.ends_with(" of them done"),
        "{trials}"
    );
    let message = evidence.table("nothing").unwrap_err().to_string();
    assert!(
        message.starts_with("there is no table nothing of the evidence; the tables are runs, machines, accuracies, ")
    );
    let message = Evidence::read(folder.path().join("elsewhere")).unwrap_err().to_string();
    assert!(message.ends_with("name a plan of trainings in JSON"), "{message}");
    Ok(())
}

#[test]
fn a_stand_in_for_the_data_is_said() -> Result<()> {
    let folder = results(PLAN, &[("vit", 1, "A", 0.80)]);
    let path = folder.path().join("vit/seed1.json");
    let mut history: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("JSON");
    history["origin"]["synthetic"] = json!(true);
    write(&folder, "vit", 1, &history);
    let evidence = Evidence::read(folder.path())?;
    let table = evidence.table("accuracies")?;
    assert_eq!(table.title, "Test accuracy after the last epoch [synthetic stand-in data]");
    assert!(
        evidence.markdown("accuracies")?.starts_with("Not FashionMNIST: some networks saw the generated stand-in.")
    );
    Ok(())
}

#[test]
fn histories_of_other_trainings_are_errors() -> Result<()> {
    let folder = results(PLAN, &[("vit", 1, "A", 0.8)]);
    let message = || Evidence::read(folder.path().join("plan.json")).unwrap_err().to_string();
    let mut history =
        json!({"config": {"SEED": 1, "EPOCHS": 1, "WARMUP_EPOCHS": 1, "LR": 0.1}, "origin": {}, "epochs": []});
    write(&folder, "vit", 1, &history);
    assert!(
        message().contains("seed1.json: is the history of another configuration than the plan's (LR: "),
        "{}",
        message()
    );
    history["config"]["LR"] = json!(Config::default().lr);
    write(&folder, "vit", 1, &history);
    assert!(message().contains("seed1.json: has 0 of 1 epochs; delete it to train anew"), "{}", message());
    Ok(())
}
