"""Completion and documentation while a cell is written."""

from .case import Case, Completes, Group, Inspects

BAR = "mod crate_room { pub struct Desk; impl Desk { pub fn tidy() {} pub fn mess(&self) -> u8 { 1 } } }"

EDITING = Group("Completion and documentation", [
    Case("a method of a value that the cell defines", [], Completes("fn names() -> Vec<String> { vec![] }\nnames().res", ("reserve(additional)",), ("push(value)",), "res")),
    Case("a method, with text after the cursor", [], Completes("let list = vec![1];\nlist.le¦;\nlist.len();", ("len()",), (), "le")),
    Case("no completions of nonsense", [], Completes("Vec::<u8>::new().zzzqqq", only=True)),
    Case("a command", [], Completes(":de", (":dep",), (), ":de", only=True)),
    Case("all commands", [], Completes(":", (":dep", ":vars", ":help"), (), ":")),
    Case("variables of earlier cells", ["let velocity = 1; let vertex = String::new();"], Completes("let _ = ve", ("velocity", "vertex"), ("vars_ok",), "ve")),
    Case("no names of evcxr", ["let something = 1;"], Completes("let _ = ev", (), ("evcxr_variable_store", "evcxr_internal_runtime", "evcxr_analysis_wrapper"), "ev")),
    Case("fields and methods of a variable", ["struct Lamp { watts: u32, on: bool }\nimpl Lamp { fn toggle(&mut self) {} }\nlet lamp = Lamp { watts: 5, on: false };"], Completes("lamp.", ("watts", "on", "toggle()"), ())),
    Case("a module's items in a use statement", [BAR], Completes("use crate_room::", ("Desk",))),
    Case("a function behind a use statement of the cell", [BAR], Completes("use crate_room::Desk; Desk::", ("tidy()",))),
    Case("a method of an item of an earlier cell", [BAR], Completes("crate_room::Desk.me", ("mess()",), (), "me")),
    Case("a variant of an enum", ["enum Phase { Solid, Liquid }"], Completes("Phase::So", ("Solid",), ("Liquid",), "So")),
    Case("a module of the standard library", [], Completes("std::collections::Hash", ("HashMap", "HashSet"), ("BTreeMap",), "Hash")),
    Case("a macro", [], Completes("printl", ("println!()",), (), "printl")),
    Case("a keyword", [], Completes("whil", (), ("while_",), "whil")),
    Case("after letters of several bytes", ["let número = vec![1];"], Completes("let ä = \"漢字\"; número.is_em", ("is_empty()",), (), "is_em")),
    Case("an argument's name in a function of the cell", [], Completes("fn pay(amount: u32) -> u32 { amo¦ }", ("amount",), (), "amo")),
    Case("a closure's argument", [], Completes("vec![String::new()].iter().map(|word| word.to_upp", ("to_uppercase()",), (), "to_upp")),
    Case("the documentation of a function of the library", [], Inspects("let list: Vec<u8> = Vec::new¦();", "Constructs a new, empty")),
    Case("the documentation as HTML", [], Inspects("let list: Vec<u8> = Vec::new¦();", "<", "text/html")),
    Case("the documentation of one's own function", ["/// Adds a pinch.\nfn season(dish: u8) -> u8 { dish + 1 }"], Inspects("seas¦on(1)", "Adds a pinch.")),
    Case("the documentation of a function below another line", ["\nfn plate() {}\n/// Adds a dash.\nfn dash(dish: u8) -> u8 { dish + 1 }"], Inspects("da¦sh(1)", "Adds a dash.")),
    Case("the type of a variable of an earlier cell", ["let ratio = 0.5f32;"], Inspects("rat¦io + 1.0", "f32")),
    Case("the documentation at the end of a cell", [], Inspects("String::from¦", "from")),
    Case("nothing is known of an unknown name", [], Inspects("unknown_na¦me()"), differs="evcxr_jupyter shows a text that nothing is known"),
], long=True)
