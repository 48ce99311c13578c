"""Variables: kept, moved, changed, dropped."""

from .case import Case, Crashes, Fails, Group, Keeps, Prints, Runs, Shows, Stops

VARIABLES = Group("Variables", [
    Case("an assertion runs", ["assert_eq!(6 * 7u8, 42);"], Runs()),
    Case("two variables of one cell are kept", ["let mut depth = 3; let width = 5;"], Keeps({"depth": "i32", "width": "i32"})),
    Case("a mutable variable is changed by a later cell", ["let mut total = 30; let step = 12;", "total = total + step;", "total"], Shows("42")),
    Case("an operator assigns to a variable of an earlier cell", ["let mut count = 1u64;", "count <<= 5;", "count"], Shows("32")),
    Case("an immutable variable can't be assigned", ["let fixed = 1;", "fixed = 2;"], Fails("E0384", "cannot assign twice", (1, "fixed = 2"))),
    Case("a refused assignment leaves the variable", ["let fixed = 1;", ("fixed = 2;", Fails("E0384")), "fixed"], Shows("1")),
    Case("a method that changes an immutable variable is refused", ["let words = vec![1u8];", "words.push(2);"], Fails("E0596", "cannot borrow `words` as mutable")),
    Case("a variable is declared again with another type", ["let name = 1;", 'let name = "one";', "name"], Shows('"one"')),
    Case("a variable is declared again from itself", ["let size = 2;", "let size = size * 10;", "size"], Shows("20")),
    Case("an immutable variable becomes mutable", ["let grow = vec![1];", "let mut grow = grow; grow.push(2);", "grow"], Shows("[1, 2]")),
    Case("a value that is moved out is no variable any more", ["let owned = Some(String::from(\"gone\"));", ("owned.unwrap()", Shows('"gone"'))], Keeps()),
    Case("the type of a variable that will move is listed", ["let owned = Some(String::from(\"here\"));"], Keeps({"owned": "Option<String>"})),
    Case("a moved variable can't be used", ["let letter = String::from(\"a\");", "let taken = letter;", "letter"], Fails("E0425", "letter")),
    Case("a variable that is dropped is gone", ["let heap = Box::new(1);", "drop(heap);"], Keeps()),
    Case("a value that is shown isn't moved", ['let title = "T".to_string();', "title", "title"], Shows('"T"')),
    Case("a field that is moved out ends its variable", ['let pair = (String::from("left"), 1);', "let (left, _) = pair;"], Keeps({"left": "String"})),
    Case("a closure of one cell may use variables of another", ["let base = 10;", "(1..4).map(|n| n * base).sum::<i32>()"], Shows("60")),
    Case("a destructured pattern keeps its names", ["let (first, ..) = (7, 8, 9);", "first"], Shows("7")),
    Case("an underscore keeps nothing", ["let _ = 5; let (kept, _) = (1, 2);"], Keeps({"kept": "i32"})),
    Case("a struct pattern keeps its names", ["struct Spot { x: i32, y: i32 }\nlet spot = Spot { x: 4, y: 9 };", "let Spot { x, y: height } = spot;", "x * height"], Shows("36")),
    Case("an array pattern keeps its names", ["let [head, .., tail] = [1, 2, 3, 4];", "(head, tail)"], Shows("(1, 4)")),
    Case("a binding with @ keeps both names", ["let whole @ (part, _) = (3, 4);", "(whole, part)"], Shows("((3, 4), 3)"), pending="evcxr doesn't look behind @"),
    Case("let-else keeps its name", ["let Some(inner) = Some(12) else { panic!() };", "inner + 1"], Shows("13")),
    Case("a printed line, then a variable", ['println!("first");', "let after = 42;", "after"], Shows("42")),
    Case("a variable of a failed cell isn't kept", [("let broken = no_such();", Fails("E0425", "no_such"))], Fails("E0425")),
    Case("a use statement follows a cell that didn't compile", [("let lost = absent();", Fails("E0425")), "use std::collections::BTreeSet;", "BTreeSet::<u8>::new().len()"], Shows("0")),
    Case("an earlier variable survives a compile error", ["let safe = 5;", ("let unsafe_one: u8 = \"text\";", Fails("E0308"))], Keeps({"safe": "i32"})),
    Case("values behind Rc and RefCell are shared between cells", [
        "use std::{cell::RefCell, rc::Rc};\nlet log: Rc<RefCell<String>> = Rc::default();\nlet writer: Rc<RefCell<String>> = Rc::clone(&log);",
        'writer.borrow_mut().push_str("ba"); let rest = "r";',
        "writer.borrow_mut().push_str(rest);",
        "log.borrow().clone()",
    ], Shows('"bar"')),
    Case("a reference to a variable can't be kept", ["let text = String::from(\"x\"); let view = &text;"], Fails("Error", "`view`") & Fails("Error", "reference")),
    Case("a reference to a variable may be used within a cell", ["let text = String::from(\"xyz\");", "{ let view = &text; view.len() }"], Shows("3")),
    Case("a static reference is kept", ['let greeting: &\'static str = "hi";', "greeting.len()"], Shows("2")),
    Case("an array is kept", ["let five = [9; 5];", "five[4] + five.len() as i32"], Shows("14")),
    Case("a variable in braces isn't kept", ["{ let inner = 3; assert_eq!(inner, 3); }"], Keeps()),
    Case("a variable of a loop isn't kept", ["for turn in 0..3 { let square = turn * turn; assert!(square < 9); }"], Keeps()),
    Case("a variable may be named like a function of the library", ["let drop = 1; let min = 2;", "drop + min"], Shows("3")),
    Case("a variable with a raw name", ["let r#type = 5;", "r#type + 1"], Shows("6")),
    Case("a variable with letters beyond ASCII", ["let größe = 5;", "größe * 2"], Shows("10")),
    Case("a hundred variables", ["".join(f"let v{n} = {n};" for n in range(100)), "v0 + v50 + v99"], Shows("149")),
    Case("a large value on the heap", ["let many = vec![1u8; 50_000_000];", "many.iter().map(|&n| n as usize).sum::<usize>()"], Shows("50000000")),
    Case("a value whose drop prints, replaced by a later cell", [
        'struct Bell(u8);\nimpl Drop for Bell { fn drop(&mut self) { println!("ring {}", self.0); } }\nlet mut bell = Bell(1);',
        "bell = Bell(2);",
    ], Prints("ring 1\n")),
    Case("a value whose drop prints, cleared", [
        'struct Gong;\nimpl Drop for Gong { fn drop(&mut self) { println!("gong"); } }\nlet gong = Gong;',
        "drop(gong);",
    ], Prints("gong\n")),
], long=True)

AFTER_FAULTS = Group("Variables after a panic or `?`", [
    Case("a panic keeps variables that it doesn't use, and copies", [
        "let list = vec![4, 5]; let number = 6;",
        ('panic!("on purpose with {}", number);', Stops("on purpose with 6")),
        "(list, number)",
    ], Shows("([4, 5], 6)")),
    Case("a panic says its message", ['panic!("reason {}", 1 + 1);'], Stops("reason 2")),
    Case("a panic loses the variables that its cell moved", [
        "let kept = 1; let moved = vec![1];",
        ('let gone = moved; panic!("moved {}", gone.len());', Stops("moved 1")),
    ], Keeps({"kept": "i32"})),
    Case("a panic loses the variables that its cell declares", ["let before = 1;", ("let within = before; panic!();", Stops("explicit panic")), "within"], Fails("E0425", "within")),
    Case("without :preserve_vars_on_panic, a panic loses all variables", [
        ":preserve_vars_on_panic 0", "let list = vec![1]; let number = 2;", ('panic!("lost {}", number);', Crashes("list and number")),
    ], Keeps(), after=[":preserve_vars_on_panic 1"]),
    Case("a compile error doesn't bring lost variables back", [
        ":preserve_vars_on_panic 0", "let ghost = vec![1];", ("panic!();", Crashes("ghost")), ("absent", Fails("E0425")),
    ], Keeps(), after=[":preserve_vars_on_panic 1"]),
    Case("`?` works without variables", ['std::fs::read_to_string("/no/such/file")?;'], Stops("No such file", "Error")),
    Case("`?` keeps variables that its cell doesn't use", [
        'let text = "kept".to_string();', ('std::fs::read("/no/such/file")?;', Stops("No such file", "Error")),
    ], Keeps({"text": "String"})),
    Case("`?` keeps the changes made before it", [
        'let mut text = "a".to_string(); let mut count = 1;',
        ('text.push_str("b"); count += 1; std::fs::read("/no/such/file")?; text.push_str("c"); count += 10;', Stops("No such file", "Error")),
        "(text, count)",
    ], Shows('("ab", 2)')),
    Case("`?` loses the variables that its cell declares again", [
        "let size = 1; let other = 2;", ('let size = 3; let fresh = 4; std::fs::read("/no/such/file")?;', Stops("No such file", "Error")),
    ], Keeps({"other": "i32"})),
    Case("the type of a variable behind `?` is found", [
        "mod outer { pub mod inner { pub struct Leaf; impl Leaf { pub fn value(&self) -> i32 { 21 } } } }\n"
        "fn leaf() -> Result<Option<outer::inner::Leaf>, i32> { Ok(Some(outer::inner::Leaf)) }",
        "let one = leaf()?;", "let two = leaf()?;", "one.unwrap().value() + two.unwrap().value()",
    ], Shows("42")),
    Case("`?` on an error that is an integer", ["fn odd() -> Result<u8, i32> { Err(77) }\nodd()?;"], Stops("77", "Error")),
    Case("`?` on a missing value", ["let none: Option<u8> = None;\nnone?;"], Fails("E0277")),
    Case("`?` as the last expression shows its value", ['"12".parse::<i32>()?'], Shows("12")),
    Case("an unwrap of an error panics with it", ['"x".parse::<i32>().unwrap();'], Stops("ParseIntError { kind: InvalidDigit }")),
    Case("an index out of bounds panics", ["let three = [1, 2, 3]; let place = three.len();", "three[place]"], Stops("index out of bounds")),
    Case("an overflow panics", ["let mut byte = 255u8;", "byte += 1;"], Stops("attempt to add with overflow")),
    Case("a division by zero panics", ["let zero = \"\".len();", "1 / zero"], Stops("attempt to divide by zero")),
    Case("a double borrow panics", ["let cell = std::cell::RefCell::new(1);", "{ let first = cell.borrow_mut(); let second = cell.borrow_mut(); }"], Stops("already")),
], long=True)
