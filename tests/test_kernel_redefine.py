"""Tests how cells of the kernel `vitlab` replace, keep and lose what earlier cells have defined, and syntax errors."""

import re
import threading
import time

import pytest
from test_kernel import Kernel, output


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.end()


@pytest.fixture
def clear(kernel):
    kernel.text(":clear")
    return kernel


def fails(kernel, code, name=None):
    """Runs a cell with a fault. Returns its reply and the report without colours."""
    reply, shown = kernel.run(code)
    assert reply["status"] == "error", shown
    assert name is None or reply["ename"] == name, reply
    return reply, re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(reply["traceback"]))


DISPLAY = 'impl Display for Shown {{ fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {{ write!(f, "{}") }} }}'


def test_a_method_of_a_later_cell_replaces_the_earlier_one_alone(clear):
    kernel = clear
    kernel.text("struct Later(i32);")
    kernel.text("impl Later { fn get(&self) -> i32 { self.0 }\n fn two(&self) -> i32 { 2 } }")
    kernel.text("impl Later { fn get(&self) -> i32 { self.0 + 1 } }")
    kernel.text("impl Later { fn three(&self) -> i32 { 3 } }")
    assert kernel.text("(Later(1).get(), Later(1).two(), Later(1).three())") == "(2, 2, 3)"
    # A cell that fails changes nothing, and its report shows the cell as it is.
    _, report = fails(kernel, "impl Later { fn get(&self) -> i32 { unknown } }", "E0425")
    assert "VitlabImpl" not in report and ":1:37 ]" in report
    assert kernel.text("Later(1).get()") == "2"


def test_an_implementation_of_a_trait_replaces_the_earlier_one(clear):
    kernel = clear
    kernel.text("use std::fmt::{self, Display};\nstruct Shown;\n" + DISPLAY.format("one"))
    assert kernel.text(DISPLAY.format("two") + '\nprintln!("{Shown}");') == "two\n"
    # The same trait by another path.
    reply, shown = kernel.run(DISPLAY.format("three").replace("Display", "fmt::Display") + '\nprintln!("{Shown}");')
    assert reply["status"] == "ok" and output(shown, "stdout") == "three\n"
    assert "conflicts" in output(shown, "stderr")
    kernel.text("impl From<i32> for Shown { fn from(_: i32) -> Self { Shown } }")
    kernel.text("impl From<u8> for Shown { fn from(_: u8) -> Self { Shown } }")
    assert kernel.text("let (_, _) = (Shown::from(1i32), Shown::from(1u8));") == ""
    kernel.text("#[derive(Clone)] struct Derived;")
    fails(kernel, "impl Clone for Derived { fn clone(&self) -> Self { Derived } }", "E0119")


def test_a_new_definition_of_a_type_takes_its_own_implementations_along(clear):
    kernel = clear
    first = "struct A { x: i32 }\nstruct B;\nimpl A { fn own(&self) -> i32 { self.x } }"
    kernel.text(first)
    kernel.text("impl A { fn other(&self) -> i32 { self.x } }")
    kernel.text("impl A { fn apart(&self) -> i32 { 7 } }")
    kernel.text("struct B;")
    assert kernel.text("A { x: 1 }.own()") == "1"
    reply, shown = kernel.run("struct A { y: i32 }")
    assert reply["status"] == "ok" and output(shown, "stderr").count("doesn't compile") == 1
    assert kernel.text("A { y: 1 }.apart()") == "7"
    for method in ("own", "other"):
        fails(kernel, f"A {{ y: 1 }}.{method}()", "E0599")
    kernel.text(first)
    assert kernel.text("A { x: 3 }.own()") == "3"


def test_the_last_module_that_compiles_counts(clear):
    kernel = clear
    kernel.text("mod shapes { pub fn area() -> i32 { 1 } }")
    fails(kernel, "mod shapes { pub fn area() -> i32 { unknown } }", "E0425")
    assert kernel.text("shapes::area()") == "1"
    kernel.text("mod shapes { pub fn side() -> i32 { 2 } }")
    assert kernel.text("shapes::side()") == "2"
    fails(kernel, "shapes::area()", "E0425")


# Code, the place of the mark, a part of the message.
SYNTAX_ERRORS = [
    ('println!("ran"); let = ;', "1:22", "expected pattern"),
    ("}", "1:1", "unexpected closing delimiter"),
    ('println!("ran");\n}\nprintln!("ran");', "2:1", "unexpected closing delimiter"),
    ("let a = 1;\n/// alone", "2:1", "documentation comment"),
    ("/// alone", "1:1", "documentation comment"),
    ("fn (a) {}", "1:4", "expected identifier"),
    ("let x = 5", "1:10", "found the end of the cell"),
    ("let ä = 'ab';", "1:9", "one codepoint"),
    ('let a = "b', "1:9", "unterminated"),
    ("let a = 1;\n:vars", "2:1", "expected"),
]


@pytest.mark.parametrize("code, place, part", SYNTAX_ERRORS)
def test_a_syntax_error_is_an_error_at_its_place(kernel, code, place, part):
    reply, shown = kernel.run(code)
    assert reply["status"] == "error" and output(shown, "stdout") == ""
    report = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(reply["traceback"]))
    assert reply["ename"] == "SyntaxError" and part in reply["evalue"], reply
    assert f":{place} ]" in report, report


def test_valid_code_of_every_kind_is_no_syntax_error(clear):
    kernel = clear
    kernel.text("// Text.\n\n  :fmt {:?}\n!true\n#![allow(unused)]\n/// Text.\nfn f() {}\nuse std::fmt")
    kernel.text(
        'let text = ("🦀 } {", r#"}"{"#, b"}", \'}\'); let _c = c"}"; /* } */ // }\n'
        "let number: i32 = { let closure = async |x: i32| x; let _ = closure; 1 };\n"
        "if let Some(x) = Some(1) && x > 0 { println!(\"{x}\") }\n"
        "macro_rules! odd { ($($t:tt)*) => { stringify!($($t)*) } }\n"
        "println!(\"{}\", odd!(=> 'a let = ; fn ::));"
    )
    assert kernel.text("let flag\n    : bool =\n!true;\nflag") == "false"


@pytest.mark.parametrize("code", [":quit", ":quit\nlet x = 1;", "// why\n\n  :quit now", ":vars\n:quit"])
def test_quit_is_refused_wherever_evcxr_would_obey(kernel, code):
    reply, _ = fails(kernel, code, "Error")
    assert "shut down from the menu" in reply["evalue"]
    kernel.client.is_complete("  :vars")
    assert kernel.client.get_shell_msg(timeout=10)["content"]["status"] == "complete"


ENDS = {
    "panic": ('panic!("on purpose");', "panicked"),
    "question": ('"x".parse::<i32>()?;', "Error"),
    "exit": ("std::process::exit(3);", "Exit"),
    "abort": ("std::process::abort();", "Crash"),
    "interrupt": ("std::thread::sleep(std::time::Duration::from_secs(60));", "Interrupted"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_cells_definitions_remain_after_its_end(clear, end):
    kernel = clear
    code, name = ENDS[end]
    kernel.text("struct Own; impl Own { fn f() -> i32 { 1 } }")
    if end == "interrupt":
        threading.Timer(3, lambda: [kernel.manager.interrupt_kernel(), time.sleep(2)]).start()
    definitions = "use std::fmt::Debug as Shows;\nimpl Own { fn f() -> i32 { 2 } }\nfn shown(x: impl Shows) -> String { format!(\"{x:?}\") }\n"
    fails(kernel, definitions + code, name)
    assert kernel.text("println!(\"{} {}\", Own::f(), shown(7));") == "2 7\n"


def test_a_variable_is_dropped_before_it_is_read_in_a_new_layout(clear):
    kernel = clear
    kernel.text("struct P { x: i32 }\nlet p = P { x: 1 };\nlet all = vec![P { x: 1 }];\nlet q = 5;")
    # The same layout.
    kernel.text("/// Text.\n#[derive(Debug)]\npub struct P {\n    x: i32\n}")
    assert kernel.text("println!(\"{} {} {q}\", p.x, all[0].x);") == "1 1 5\n"
    fails(kernel, "struct P { x: f64 }\nunknown();", "E0425")
    assert kernel.text("p.x") == "1"
    reply, shown = kernel.run("struct P { x: f64 }\nlet p = P { x: 1.5 };")
    assert reply["status"] == "ok" and "`all` of type `Vec<P>` was dropped, because `P`" in output(shown, "stderr")
    assert "`p`" not in output(shown, "stderr")
    assert kernel.text("println!(\"{} {q}\", p.x);") == "1.5 5\n"
    fails(kernel, "all", "E0425")


def test_variables_of_a_crate_that_changes_are_dropped(clear, tmp_path):
    kernel = clear
    crate = tmp_path / "semantic_geometry"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text('[package]\nname = "semantic_geometry"\nversion = "1.0.0"\nedition = "2024"\n')
    source = "pub struct Point {{ pub x: {0} }}\nimpl Point {{ pub fn new() -> Self {{ Point {{ x: 1 as {0} }} }} }}\n"
    (crate / "src/lib.rs").write_text(source.format("i32"))
    kernel.text("struct Own { x: i32 }\nlet own = Own { x: 3 };")
    # A new crate changes no type of a cell.
    kernel.text(f':dep semantic_geometry = {{ path = "{crate}" }}\nuse semantic_geometry::Point;')
    kernel.text("let point = Point::new();\nlet points = vec![Point::new()];")
    assert kernel.text('println!("{} {} {}", own.x, point.x, points[0].x);') == "3 1 1\n"
    (crate / "src/lib.rs").write_text(source.format("f64"))
    reply, shown = kernel.run("let point = Point::new();\nprintln!(\"{:?} {}\", point.x, own.x);")
    assert reply["status"] == "ok", reply
    assert output(shown, "stdout") == "1.0 3\n"
    assert "`points` of type `Vec<Point>` was dropped, because `semantic_geometry`" in output(shown, "stderr")
    assert kernel.text("point.x") == "1.0"


def test_restart_ends_all_variables(clear):
    kernel = clear
    kernel.text("fn f() -> i32 { 7 }\nlet beta = 1; let gamma = String::new();")
    assert "without variables" in kernel.text(":restart")
    assert kernel.text(":vars") == ""
    assert kernel.text("f()") == "7"
    kernel.text("let beta = 2;")
    assert kernel.text(":restart\nlet delta = f();\ndelta").endswith("7")
    fails(kernel, "beta", "E0425")


def test_a_reference_between_variables_gets_advice(kernel):
    reply, report = fails(kernel, 'let owner = String::from("a"); let part = &owner[..];')
    assert "`part`" in reply["evalue"] and "Box::leak" in report and "to_string" in report


def test_a_type_with_a_trait_that_is_not_imported_is_kept(kernel):
    kernel.text("let joined = std::thread::spawn(|| 1).join();")
    assert kernel.text("joined.is_ok()") == "true"
