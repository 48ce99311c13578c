"""What a reader tries in a first hour with Rust and data in a notebook."""

from .case import Case, Displays, Fails, Group, Prints, Shows, Stops

SETUP = """:dep vitlab = { path = "../crate" }
:dep table = { path = "FOLDER/table" }
:dep serde_json = "1"
use vitlab::ndarray::{array, s, Array1, Array2, Axis};
use vitlab::plot::{Group, Panel, Series, bars, curves};"""

FIRST_HOUR = Group("A first hour with data", [
    Case("a file is read", ['let poem = std::fs::read_to_string("FOLDER/poem.txt")?;', "poem.lines().count()"], Shows("3")),
    Case("words are counted in a HashMap", [
        "use std::collections::HashMap;\nlet verse = std::fs::read_to_string(\"FOLDER/poem.txt\")?;\nlet mut counts: HashMap<String, usize> = HashMap::new();\n"
        "for word in verse.split_whitespace() { *counts.entry(word.to_string()).or_insert(0) += 1; }", 'counts["the"]',
    ], Shows("4")),
    Case("words are counted without a written type", [
        "use std::collections::HashMap;\nlet mut tallies = HashMap::new();\nfor word in \"a b a\".split(' ') { *tallies.entry(word).or_insert(0) += 1; }", 'tallies["a"]',
    ], Shows("2")),
    Case("counts are sorted", [
        "let mut ranked: Vec<(&str, i32)> = vec![(\"b\", 2), (\"a\", 5), (\"c\", 2)];\nranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));", "ranked",
    ], Shows("[(\"a\", 5), (\"b\", 2), (\"c\", 2)]")),
    Case("a vector is sorted, and its duplicates removed", ["let mut years = vec![2003, 1999, 2003, 2010];\nyears.sort(); years.dedup();", "years.len()"], Shows("3")),
    Case("floats are sorted", ["let mut heights = vec![1.5, 0.5, 2.5];\nheights.sort_by(f64::total_cmp);", "heights.first()"], Shows("Some(0.5)")),
    Case("a sort by a key", ["let mut names = vec![\"Grace\", \"Ada\", \"Alan\"];\nnames.sort_by_key(|name| name.len());", "names.join(\" \")"], Shows('"Ada Alan Grace"')),
    Case("sum, mean and standard deviation", ["let sample = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0f64];\nlet mean = sample.iter().sum::<f64>() / sample.len() as f64;\nlet deviation = (sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / sample.len() as f64).sqrt();", "(mean, deviation) == (5.0, 2.0)"], Shows("true")),
    Case("the largest and its place", ["let scores = [3, 9, 4];\nlet (place, &top) = scores.iter().enumerate().max_by_key(|(_, score)| **score).unwrap();", "(place, top) == (1, 9)"], Shows("true")),
    Case("zip, filter and map", ["let weights = [1, 2, 3]; let flags = [true, false, true];", "weights.iter().zip(flags).filter(|(_, keep)| *keep).map(|(w, _)| w * 10).sum::<i32>()"], Shows("40")),
    Case("a fold", ["(1..=5).fold(String::new(), |text, n| text + &n.to_string())"], Shows('"12345"')),
    Case("windows and chunks", ["let steps = [1, 4, 9, 16];\nsteps.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<i32>>() == [3, 5, 7] && steps.chunks(2).count() == 2"], Shows("true")),
    Case("a flat_map and a take_while", ["(1..).flat_map(|n| [n, n * 10]).take_while(|&n| n < 40).sum::<i32>()"], Shows("70")),
    Case("a partition", ["let (small, large): (Vec<i32>, Vec<i32>) = (1..7).partition(|n| *n < 3);", "(small.len(), large.len()) == (2, 4)"], Shows("true")),
    Case("results are collected into one", ['["1", "2", "x"].iter().map(|t| t.parse::<i32>()).collect::<Result<Vec<_>, _>>().is_err()'], Shows("true")),
    Case("a CSV file by a crate of one's own", ['let rows = table::read("FOLDER/numbers.csv")?;', "rows.iter().map(|row| row[1]).sum::<f64>()"], Shows("12.0")),
    Case("a CSV file by the library, into structs", [
        "#[derive(Debug, Clone)]\nstruct Person { name: String, city: String, age: Option<u32> }\n"
        "impl Person {\n    fn parse(line: &str) -> Option<Person> {\n        let mut cells = line.split(',');\n"
        "        Some(Person { name: cells.next()?.into(), city: cells.next()?.into(), age: cells.next()?.parse().ok() })\n    }\n}\n"
        'let people: Vec<Person> = std::fs::read_to_string("FOLDER/people.csv")?.lines().skip(1).filter_map(Person::parse).collect();',
        "people.iter().filter_map(|person| person.age).sum::<u32>()",
    ], Shows("103")),
    Case("a group by city", [
        "use std::collections::BTreeMap;\nlet mut cities: BTreeMap<&str, Vec<u32>> = BTreeMap::new();\nfor (city, age) in [(\"London\", 36), (\"Paris\", 39), (\"London\", 20)] { cities.entry(city).or_default().push(age); }",
        "cities[\"London\"].iter().sum::<u32>()",
    ], Shows("56")),
    Case("a file is written and read back", ['std::fs::write("FOLDER/out.txt", "three\\nlines\\nhere\\n")?;\nstd::fs::read_to_string("FOLDER/out.txt")?.lines().last().map(str::to_owned)'], Shows('"here"', True)),
    Case("a file is read line by line", ['use std::io::{BufRead, BufReader};\nlet lines: Vec<String> = BufReader::new(std::fs::File::open("FOLDER/poem.txt")?).lines().collect::<Result<_, _>>()?;', "lines[1].as_str()"], Shows('"the violet is blue"')),
    Case("a folder is listed", ['let mut found: Vec<_> = std::fs::read_dir("FOLDER")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| name.ends_with(".csv")).collect();\nfound.sort();', "found.join(\" \")"], Shows('"numbers.csv people.csv"')),
    Case("JSON is read by name", ['let settings: serde_json::Value = serde_json::from_str(&std::fs::read_to_string("FOLDER/settings.json")?)?;', 'settings["rates"][1].as_f64()'], Shows("0.01", True)),
    Case("JSON is built and printed", ['println!("{}", serde_json::json!({ "epochs": 3, "names": ["a", "b"] }));'], Prints('{"epochs":3,"names":["a","b"]}\n')),
    Case("wrong JSON is an error with its place", ['serde_json::from_str::<serde_json::Value>("{\\"a\\": }")?;'], Stops("line 1 column 7", "Error")),
    Case("an array and its arithmetic", ["let grid: Array2<f64> = array![[1.0, 2.0], [3.0, 4.0]];", "(&grid * 2.0 + 1.0).sum()"], Shows("24.0")),
    Case("an array without a written type", ["let plain = array![1.0, 2.0, 3.0];", "plain.dot(&plain)"], Shows("14.0")),
    Case("a slice of an array", ["let board = Array2::from_shape_fn((3, 4), |(row, column)| row * 4 + column);", "board.slice(s![1.., ..2]).sum()"], Shows("26")),
    Case("means along an axis", ["let table3 = array![[1.0, 2.0], [3.0, 6.0]];\nlet means = table3.mean_axis(Axis(0)).unwrap();", "means.to_vec() == [2.0, 4.0]"], Shows("true")),
    Case("a matrix product and a transpose", ["let left = array![[1, 2], [3, 4]];", "left.dot(&left.t())[[1, 0]]"], Shows("11")),
    Case("a map over an array", ["let angles = Array1::linspace(0.0, 1.0, 5);\nlet squares = angles.mapv(|x: f64| x * x);", "squares[4] - squares[2]"], Shows("0.75")),
    Case("an array is changed in place", ["let mut field = Array2::<i32>::zeros((2, 2));\nfield.row_mut(1).fill(5); field[[0, 0]] += 1;", "field.sum()"], Shows("11")),
    Case("an array's shape that doesn't fit panics", ["array![1.0, 2.0] + array![1.0, 2.0, 3.0];"], Stops("IncompatibleShape")),
    Case("an array is shown", ["array![[1, 2], [3, 4]].to_string()"], Shows("[[1, 2],", True)),
    Case("a figure of curves", [
        'let loss = Series::per_epoch("loss", [1.0, 0.5, 0.25]);\n'
        'let figure = curves("Training", &[Panel { x_label: "epoch".into(), y_label: "loss".into(), series: vec![loss], ..Panel::default() }])?;', "figure",
    ], Displays("image/png", "iVBOR")),
    Case("threads share the work", ["let parts: Vec<u64> = (0..4u64).map(|part| std::thread::spawn(move || (part * 25..(part + 1) * 25).sum())).map(|thread| thread.join().unwrap()).collect();", "parts.iter().sum::<u64>()"], Shows("4950")),
    Case("scoped threads borrow a variable", ["let shared_list = vec![1, 2, 3, 4];\nlet halves = std::thread::scope(|scope| { let (a, b) = shared_list.split_at(2); let left = scope.spawn(|| a.iter().sum::<i32>()); b.iter().sum::<i32>() * 10 + left.join().unwrap() });", "halves"], Shows("73")),
    Case("a channel with several senders", ["use std::sync::mpsc;\nlet (tx, rx) = mpsc::channel::<u32>();\nfor id in 0..3 { let tx = tx.clone(); std::thread::spawn(move || tx.send(id * id).unwrap()); }\ndrop(tx);\nlet mut gathered: Vec<u32> = rx.iter().collect(); gathered.sort();", "gathered.iter().sum::<u32>()"], Shows("5")),
    Case("a counter behind an Arc and a Mutex", ["use std::sync::{Arc, Mutex};\nlet counter = Arc::new(Mutex::new(0));\nlet handles: Vec<_> = (0..8).map(|_| { let counter = Arc::clone(&counter); std::thread::spawn(move || *counter.lock().unwrap() += 1) }).collect();\nfor handle in handles { handle.join().unwrap(); }", "*counter.lock().unwrap()"], Shows("8")),
    Case("an atomic counter", ["use std::sync::atomic::{AtomicU64, Ordering};\nstatic HITS: AtomicU64 = AtomicU64::new(0);\nstd::thread::scope(|scope| { for _ in 0..4 { scope.spawn(|| HITS.fetch_add(1, Ordering::Relaxed)); } });", "HITS.load(Ordering::Relaxed)"], Shows("4"), pending="a static has its first value again in each cell"),
    Case("time is measured", ["use std::time::{Duration, Instant};\nlet begun = Instant::now();\nstd::thread::sleep(Duration::from_millis(20));\nlet taken = begun.elapsed();", "taken >= Duration::from_millis(20) && taken < Duration::from_secs(5)"], Shows("true")),
    Case("a trait for several types", ["trait Area { fn area(&self) -> f64; }\nstruct Circle(f64); struct Quad(f64, f64);\nimpl Area for Circle { fn area(&self) -> f64 { 3.0 * self.0 * self.0 } }\nimpl Area for Quad { fn area(&self) -> f64 { self.0 * self.1 } }\nfn total(shapes: &[&dyn Area]) -> f64 { shapes.iter().map(|shape| shape.area()).sum() }", "total(&[&Circle(1.0), &Quad(2.0, 2.5)])"], Shows("8.0")),
    Case("a generic stack", ["#[derive(Default)]\nstruct Stack<T> { items: Vec<T> }\nimpl<T> Stack<T> { fn push(&mut self, item: T) -> &mut Self { self.items.push(item); self } fn pop(&mut self) -> Option<T> { self.items.pop() } }\nlet mut stack: Stack<i32> = Stack::default();\nstack.push(1).push(2);", "stack.pop().unwrap() + stack.pop().unwrap()"], Shows("3")),
    Case("operators of a complex number", ["#[derive(Debug, Clone, Copy, PartialEq)]\nstruct Complex { re: f64, im: f64 }\nimpl std::ops::Mul for Complex { type Output = Complex; fn mul(self, other: Complex) -> Complex { Complex { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re } } }\nlet i = Complex { re: 0.0, im: 1.0 };", "i * i == Complex { re: -1.0, im: 0.0 }"], Shows("true")),
    Case("a Display of one's own", ["struct Money(i64);\nimpl std::fmt::Display for Money { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, \"{}.{:02} €\", self.0 / 100, self.0 % 100) } }\nprintln!(\"{}\", Money(1205));"], Prints("12.05 €\n")),
    Case("an error type of one's own", ["#[derive(Debug)]\nenum Trouble { Empty, Number(std::num::ParseIntError) }\nimpl std::fmt::Display for Trouble { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { match self { Trouble::Empty => write!(f, \"there is nothing\"), Trouble::Number(e) => write!(f, \"no number: {e}\") } } }\nimpl std::error::Error for Trouble {}\nimpl From<std::num::ParseIntError> for Trouble { fn from(e: std::num::ParseIntError) -> Self { Trouble::Number(e) } }\nfn number(text: &str) -> Result<i32, Trouble> { if text.is_empty() { return Err(Trouble::Empty) } Ok(text.parse::<i32>()?) }", "number(\"4\")? + 1"], Shows("5")),
    Case("an error of one's own ends a cell", ['number("four")?;'], Stops("no number: invalid digit found in string", "Error")),
    Case("a boxed error", ["fn load(path: &str) -> Result<usize, Box<dyn std::error::Error>> { Ok(std::fs::read_to_string(path)?.trim().parse::<usize>()?) }", 'load("FOLDER/none.txt")?;'], Stops("No such file", "Error")),
    Case("a closure is passed to a function", ["fn twice_of(f: impl Fn(i32) -> i32, n: i32) -> i32 { f(f(n)) }\nlet shift = 3;", "twice_of(|n| n + shift, 1)"], Shows("7")),
    Case("a table of closures", ["let operations: Vec<(&str, Box<dyn Fn(f64) -> f64>)> = vec![(\"half\", Box::new(|x| x / 2.0)), (\"square\", Box::new(|x| x * x))];", "operations.iter().map(|(_, f)| f(4.0)).sum::<f64>()"], Shows("18.0")),
    Case("text is cut and joined", ['"  Rust, in  notebooks ".trim().split(\',\').map(|part| part.split_whitespace().collect::<Vec<_>>().join("-")).collect::<Vec<_>>().join("+")'], Shows('"Rust+in-notebooks"')),
    Case("random numbers by hand", ["let mut state = 42u64;\nlet mut random = move || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state };\nassert!(random() != random());"], Fails("Error", "closure"), differs="evcxr_jupyter shows E0521, beside a variable with a reference"),
    Case("a table of text is printed", ['for (name, share) in [("train", 0.8), ("test", 0.2)] { println!("{name:<6}|{share:>6.1}"); }'], Prints("train |   0.8\ntest  |   0.2\n")),
    Case("primes by a sieve", ["fn primes(top: usize) -> Vec<usize> { let mut is = vec![true; top + 1]; let mut out = vec![]; for n in 2..=top { if is[n] { out.push(n); for m in (n * n..=top).step_by(n) { is[m] = false } } } out }", "primes(30).iter().sum::<usize>()"], Shows("129")),
    Case("a least-squares line", ["let points = [(1.0, 3.0), (2.0, 5.0), (3.0, 7.0f64)];\nlet count = points.len() as f64;\nlet (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);\nlet slope = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / points.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>();", "(slope, my - slope * mx) == (2.0, 1.0)"], Shows("true")),
], setup=SETUP, clear=False, long=True)
