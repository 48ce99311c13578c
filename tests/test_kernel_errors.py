"""Tests the errors of the kernel `vitlab`: their names, their places in the cell and what they advise."""

import re
from pathlib import Path

import pytest
from test_kernel import Kernel

# Cells that run before, in this order. `FAILING` marks those that fail.
FAILING = "// fails\n"
EARLIER = [
    'let text = "abc";\nlet owned = String::from("x");\nlet moved = vec![1, 2];\nlet numbers: Vec<i32> = vec![];',
    "drop(moved);",
    FAILING + 'let unkept = 1;\npanic!("stop");',
    FAILING + "fn uncompiled() -> i32 { 1u8 }",
    "// third\nfn third(v: &[i32]) -> i32 {\n    v[3]\n}",
    "struct Point { x: i32 }\nfn area(p: &Point) -> i32 {\n    p.x * 2\n}",
    'macro_rules! add_text { ($a:expr) => { $a + "x" } }',
    ':dep anyhow = "1"\nuse anyhow::Context;\nfn load() -> anyhow::Result<String> { std::fs::read_to_string("no/such").context("reading the settings") }',
    "// evcxr repairs nothing in the display of such a type.\nstruct Figure;\nimpl Figure { fn evcxr_display(&self) {} }\nlet every = [0, 1, 2];",
    "fn plotted(_: &[usize]) -> Figure { Figure }\nfn displayed<T: std::fmt::Display>(_: T) -> Figure { Figure }\n#[allow(unconditional_recursion)]\nimpl Figure { fn titled(&self, text: &str) -> Figure { self.titled(text) } }",
    "fn helper(a: i32) -> i32 { a }\nfn uses_helper() -> i32 { helper(1) }",
]

# Code, name, a part of the message, the marked place "cell_N:line:column" without the cell's own number, and parts of the
# lines below.
ERRORS = {
    "a macro before": ('println!("hi");\nlet m = HashMap::<i32, i32>::new();', "E0433", "HashMap", "2:9", ["use std::collections::HashMap;"]),
    "unused things": ("fn unused(a: i32) {}\nlet s: String = 1;", "E0308", "mismatched", "2:17", ["expected `String`"]),
    "a denied lint": ("#![deny(unused_variables)]\nfn f() { let a = 1; }", "unused_variables", "`a`", "2:14", ["_a"]),
    "characters": ('let é = "👩‍🔬ü"; let 数: i32 = é;', "E0308", "mismatched", "1:30", ["expected `i32`"]),
    "characters above": ('// ä 👍\n\n\tlet s = "e\u0301"; let n: i32 = s;', "E0308", "mismatched", "3:29", ["expected `i32`"]),
    "lines of Windows": ("let a = 1;\r\n\r\nlet b: String = a;\r\n", "E0308", "mismatched", "3:17", ["expected `String`"]),
    "an import": ("use std::{fmt, collections::{HashSet, BTreMap}};", "E0432", "BTreMap", "1:39", ["BTreeMap"]),
    "an item behind statements": ("let a = 1;\nfn f() -> i32 {\n    a.b\n}", "E0425", "`a`", "3:5", []),
    "the last expression": ("let a = 1;\na.no_such()", "E0599", "no_such", "2:3", []),
    "a macro of this cell": ('macro_rules! m { () => { 1 + "a" } }\nm!();', "E0277", "cannot add", "1:28", ["in this call of the macro"]),
    "a macro of another cell": ("let a = 1;\nadd_text!(a);", "E0277", "cannot add", "2:1", []),
    "added text": ("for i in 0..3 { let s: String = i; }", "E0308", "mismatched", "1:33", ["expected `String`"]),
    "a missing semicolon": ("let a = 5\nlet b = 6;", "SyntaxError", "expected `;`", "1:10", ["add `;` here"]),
    "an open string": ('let s = "open;', "SyntaxError", "unterminated", "1:9", []),
    "an open brace": ("let a = (1, 2;", "SyntaxError", "unclosed delimiter: `(`", "1:9", []),
    "two insertions": ("fn g(a: &i32, b: &i32) {}\nlet x = 1; let y = 2;\ng(x, y);", "E0308", "arguments", "3:1", ["g(&x, y);", "g(x, &y);"]),
    "a moved variable": ("moved.len()", "E0425", "`moved`", "1:1", ["cell [2] moved `moved`"]),
    "a variable of a failed cell": ("unkept + 1", "E0425", "`unkept`", "1:1", ["cell [3] defines `unkept`, but failed"]),
    "a function that didn't compile": ("uncompiled()", "E0425", "`uncompiled`", "1:1", ["cell [4] defines `uncompiled`, but doesn't compile"]),
    "a borrow from an earlier cell": ("let part = owned.as_str();", "Error", "`part` borrows", "1:5", [".to_string()", "Box::leak", "one block"]),
    "a borrow of a new value": ('let o = String::from("x");\nlet p = &o[..];', "Error", "`p` borrows", "2:5", [".clone()"]),
    "a temporary value that is borrowed": ('let s: &str = &String::from("x");', "E0716", "temporary", "1:16", ["Box::leak", "kept for later cells"]),
    "a thread that borrows": ("let a = 1;\nstd::thread::spawn(|| owned.len());", "E0373", "may outlive", "2:20", ["move || owned.len()"]),
    "a closure beside a text": ("let f = |x: i32| x + 1;", "Error", "closure", "1:5", ["Box<dyn Fn"]),
    "a type without a name": ('let t = std::thread::spawn(|| panic!("never"));', "Error", "never returns", "1:5", ["block"]),
    "another value of a constant variable": ("owned = String::new();", "E0384", "`owned`", "1:1", ["let mut owned = owned;"]),
    "a type that an earlier function uses": ("struct Point { y: i32 }", "E0609", "`x`", "cell_6:3:7", ["p.x * 2", "cell [6] no longer compiles"]),
    "an argument of the last expression": ("plotted(&every)", "E0308", "mismatched", "1:9", ["found `&[i32; 3]`", "function defined here"]),
    "an argument beside its function": ("fn near(_: &[usize]) -> Figure { Figure }\nnear(&every)", "E0308", "mismatched", "2:6", ["found `&[i32; 3]`"]),
    "an argument of a method": ("struct New;\nFigure.titled(&every)", "E0308", "mismatched", "2:15", ["found `&[i32; 3]`", "method defined here"]),
    "a bound of an earlier function": ("struct Silent;\ndisplayed(Silent)", "E0277", "Display", "2:11", ["required by this bound"]),
    "an argument that an earlier function lacks": ("fn helper(a: i32, b: i32) -> i32 { a + b }", "E0061", "2 arguments", "1:4", ["uses_helper", "cell [11] no longer compiles"]),
    "a trait that isn't imported": ("!true\nmod inside { pub fn make() -> Box<dyn std::any::Any> { Box::new(1) } }\nlet any = inside::make();", "E0405", "a trait that isn't imported", None, ["use std::any::Any;"]),
    "? on an option": ("let first = numbers.first()?;", "E0277", "only be used on `Result`s", "1:28", [".ok_or("]),
    "? on an error without a text": ("struct Mute;\nErr::<i32, Mute>(Mute)?;", "E0277", "Display", "2:23", ["map_err"]),
    "a thread's closure": ("let rc = std::rc::Rc::new(1);\nstd::thread::spawn(move || drop(rc));", "E0277", "Rc<i32>", "2:20", ["{closure}"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    for code in EARLIER:
        reply, _ = kernel.run(code)
        assert reply["status"] == ("error" if code.startswith(FAILING) else "ok"), reply
    yield kernel
    kernel.end()


def failure(kernel, code):
    """Returns the reply of a failing cell, and its traceback without colours."""
    reply, shown = kernel.run(code)
    assert reply["status"] == "error", shown
    return reply, re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(reply["traceback"]))


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_named_placed_and_explained(kernel, case):
    code, name, part, place, parts = ERRORS[case]
    reply, told = failure(kernel, code)
    assert reply["ename"] == name and part in reply["evalue"], told
    own = f"cell_{reply['execution_count']}"
    if place is None:
        assert " ]\n" not in told, told
    else:
        assert f"[ {place if place.startswith('cell_') else f'{own}:{place}'} ]" in told, told
    assert all(part in told for part in parts), told
    assert ("no longer compiles" in told) == any("no longer compiles" in part for part in parts), told
    for hidden in ("evcxr", "run_user_code", "src/lib.rs", "/tmp", str(Path.home()), "\nerror: ", "unused variable: `v`", "E0505"):
        assert hidden not in told, told
    # The title isn't repeated.
    assert told.count(reply["evalue"]) == 1, told
    assert "\x1b[" in reply["traceback"][0]


# Code, the message, and the lines below.
PANICS = {
    "equal lines": ("let k = numbers.len();\nnumbers[k];\nnumbers[k + 1];\nnumbers[k];", "the index is 0", ["  at line 2 of the cell: numbers[k];"]),
    "the second of equal lines": ("for n in 0..2 {\n    if n == 0 { continue }\n    assert!(n == 0);\n}\nassert!(n == 0);".replace("n == 0);\n}", "n < 9);\n}").replace("assert!(n == 0);", "assert!(1 == 0);"), "1 == 0", ["  at line 5 of the cell: assert!(1 == 0);"]),
    "an edited line": ('let a = 1;\nfor i in 0..3 { assert!(i < 2, "é {i}"); }', "é 2", ['  at line 2 of the cell: for i in 0..3 { assert!(i < 2, "é {i}"); }']),
    "an earlier cell": ("let a = 1;\nthird(&numbers);", "the index is 3", ["  at line 3 of cell [5]: v[3]"]),
    "a macro": ("let a = 1;\nassert_eq!(\n    a,\n    2\n);", "left == right", ["  at line 2 of the cell: assert_eq!("]),
    "an empty message": ('panic!("");', "without a message", ["  at line 1 of the cell: panic!(\"\");"]),
    "a thread": (
        'let t = std::thread::spawn(|| -> i32 { panic!("in the thread") });\nt.join().unwrap();',
        "Any { .. }",
        ["  at line 2 of the cell: t.join().unwrap();", "  a thread panicked: in the thread", '  at line 1 of the cell: let t = std::thread::spawn(|| -> i32 { panic!("in the thread") });'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PANICS)
def test_a_panic_names_its_exact_line(kernel, case):
    code, part, lines = PANICS[case]
    reply, told = failure(kernel, code)
    assert reply["ename"] == "panicked" and part in reply["evalue"], told
    assert told.splitlines()[-len(lines):] == lines, told


def test_a_question_mark_tells_the_causes_of_an_error(kernel):
    reply, _ = failure(kernel, "let é = 1;\nlet settings = load()?;")
    assert reply["evalue"] == "reading the settings: No such file or directory (os error 2)"
    for code, message in {
        'let n: i32 = "x".parse()?;': "invalid digit found in string",
        '"1 x".split(" ").map(|it| it.parse()).collect::<Result<Vec<i32>, _>>()?;': "invalid digit found in string",
        'Err::<(), Box<dyn std::error::Error>>("boxed".into())?;': "boxed",
        'Err::<(), &str>("{error}")?;': "{error}",
    }.items():
        assert failure(kernel, code)[0]["evalue"] == message
    assert kernel.text('let f = |t: &str| -> Result<i32, std::num::ParseIntError> { Ok(t.parse::<i32>()? + 1) };\nlet n = f("4")?;\nprintln!("{n}");'.replace("let f", "let n = { let f").replace("let n = f", "f").replace(")?;\n", ")? };\n")) == "5\n"


def test_the_users_own_format_of_errors_stays(kernel):
    kernel.run(":efmt {:?}")
    assert failure(kernel, 'Err::<(), &str>("a")?;')[0]["evalue"] == '"a"'
    kernel.run(":efmt {}")
    assert failure(kernel, 'Err::<(), &str>("a")?;')[0]["evalue"] == "a"
