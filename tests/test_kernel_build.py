"""Tests how the kernel builds cells: toolchains, evcxr's settings, dependencies that change, progress, tokio, statics.

Most crates are written here, so that they build in a second and need no network.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_kernel import LIMIT, NOTEBOOKS, Kernel, interrupt, output


def write_crate(folder, manifest="", source="", **files):
    """Writes a crate named like its folder. Returns its `:dep` line without features."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "src").mkdir(exist_ok=True)
    head = f'[package]\nname = "{folder.name}"\nversion = "0.1.0"\nedition = "2024"\n'
    (folder / "Cargo.toml").write_text(head + manifest)
    (folder / "src/lib.rs").write_text(source)
    for name, text in files.items():
        (folder / f"{name}.rs").write_text(text)
    return f':dep {folder.name} = {{ path = "{folder}" }}'


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def own():
    """A kernel for one test."""
    kernel = Kernel()
    yield kernel
    kernel.end()


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.end()


def other_toolchain():
    """Returns an installed toolchain with another compiler than the present one, or None."""
    try:
        ask = lambda *arguments: subprocess.check_output(arguments, text=True, stderr=subprocess.DEVNULL).strip()
        own = ask("rustc", "-vV")
        names = ask("rustup", "toolchain", "list", "--quiet").split()
        return next((name for name in names if ask("rustup", "run", name, "rustc", "-vV") != own), None)
    except (OSError, subprocess.CalledProcessError):
        return None


@pytest.mark.long
def test_cells_run_with_another_toolchain_and_back(own):
    name = other_toolchain()
    if name is None:
        pytest.skip("only one toolchain is installed")
    version = lambda toolchain: subprocess.check_output(["rustup", "run", toolchain, "rustc", "-V"], text=True).split()[1]
    own_name = subprocess.check_output(["rustup", "show", "active-toolchain"], text=True).split()[0]
    own.text("let lost = 1;\nfn kept() -> i32 { 7 }")
    for toolchain in (name, own_name):
        reply, shown = own.run(f":toolchain {toolchain}")
        assert reply["status"] == "ok", reply
        assert "lost" in output(shown, "stderr")
        assert own.text(":toolchain").strip() == f"Toolchain: {toolchain}"
        # Variables, values and errors work as before. The library of a cell is that of the toolchain.
        own.text("let lost = kept();")
        assert own.text("lost + 1") == "8"
        loaded = own.text('print!("{}", std::fs::read_to_string("/proc/self/maps")?);')
        sysroot = subprocess.check_output(["rustup", "run", toolchain, "rustc", "--print", "sysroot"], text=True).strip()
        assert f"{sysroot}/lib" in loaded, version(toolchain)
        assert own.run("lost;\nno_such()")[0]["ename"] == "E0425"


@pytest.mark.long
def test_a_toolchain_that_is_not_installed_changes_nothing(kernel):
    kernel.text("let remains = 3;")
    reply, _ = kernel.run(":toolchain no-such-toolchain")
    assert reply["status"] == "error"
    assert "no-such-toolchain isn't installed" in reply["evalue"] and "rustup toolchain install" in reply["evalue"]
    assert kernel.text("remains") == "3"


def test_a_restart_forgets_the_variables_alone(kernel):
    kernel.text("let forgotten = 3;\nfn remembered() -> i32 { 4 }")
    assert "restarted" in kernel.text(":restart")
    assert kernel.text(":vars").strip() == ""
    assert kernel.text("remembered()") == "4"
    kernel.text("let forgotten = 5;")
    assert kernel.text(":restart\nremembered()").endswith("4")
    assert kernel.run("forgotten")[0]["ename"] == "E0425"


@pytest.mark.long
def test_the_cache_serves_the_next_kernel_and_never_a_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for hits in (0, 1):
        kernel = Kernel()
        try:
            kernel.text(":cache 500")
            # A crate that the set-up hasn't built.
            assert kernel.text(':dep hex = "0.4"\nhex::encode([7])').endswith('"07"')
            cached = kernel.text(":cache")
            assert f"Hits: {hits}\n" in cached and "Entries: 0\n" not in cached
            assert [kernel.text(f"hex::encode([{n}])") for n in (1, 2)] == ['"01"', '"02"']
            # The check of a cell isn't cached either.
            assert "closure" in kernel.run("let f = |x: i32| x;")[0]["evalue"]
            assert kernel.run("hex::no_such();")[0]["ename"] == "E0425"
        finally:
            kernel.end()


@pytest.mark.long
def test_without_static_linking_cells_share_the_statics_of_dependencies(own, tmp_path):
    source = "#![no_std]\nuse core::sync::atomic::AtomicI32;\npub static N: AtomicI32 = AtomicI32::new(0);\n"
    dependency = write_crate(tmp_path / "shared_state", source=source)
    own.text(dependency + "\nuse std::sync::atomic::Ordering::SeqCst;\nshared_state::N.store(765, SeqCst);")
    assert own.text("shared_state::N.load(SeqCst)") == "0"
    own.text(":allow_static_linking 0")
    own.text("shared_state::N.store(765, SeqCst);")
    # The first of these cells starts cargo, the others rustc alone.
    assert [own.text("shared_state::N.load(SeqCst)") for _ in range(3)] == ["765"] * 3
    assert own.run("let f: u8 = shared_state::no_such();")[0]["ename"] == "E0425"


@pytest.mark.long
def test_the_level_is_that_of_the_cells(own):
    read = 'print!("{}", std::fs::read_to_string(std::env::var("EVCXR_TMPDIR")? + "/target/rustc.json")?);'
    # The first variable of a kernel makes evcxr write its manifest.
    for level, define in (("0", ""), ("3", "let a = 1;"), ('"s"', ""), ("2", "let b = 2;")):
        own.text(f":opt {level}")
        own.text(define)
        own.text("0")
        levels = [it for it in json.loads(own.text(read))["arguments"] if it.startswith("opt-level=")]
        assert levels == ["opt-level=" + level.strip('"')]
    for level in ("9", "s", "fast"):
        assert "the levels are 0, 1" in own.run(f":opt {level}")[0]["evalue"]
    assert own.text("1") == "1"


def test_durations_are_printed_on_request(kernel):
    assert "Took" not in output(kernel.run("1")[1], "stderr")
    kernel.text(":timing")
    try:
        _, shown = kernel.run("let n = 2; n")
        told = output(shown, "stderr")
        assert told.startswith("Took ") and "compiling" in told and "running" in told
    finally:
        kernel.text(":timing")
    assert "Took" not in output(kernel.run("1")[1], "stderr")


def test_edited_manifests_of_path_crates_take_effect(kernel, tmp_path):
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["outer", "inner"]\n[workspace.package]\nlicense = "one"\n')
    write_crate(tmp_path / "inner", source='pub const VERSION: &str = env!("CARGO_PKG_VERSION");')
    source = (
        'pub fn all() -> String { format!("{} {} {} {}", env!("CARGO_PKG_VERSION"), inner::VERSION, '
        'env!("CARGO_PKG_LICENSE"), cfg!(feature = "loud")) }'
    )
    manifest = 'license.workspace = true\n[features]\nloud = []\n[dependencies]\ninner = { path = "../inner" }\n'
    dependency = write_crate(tmp_path / "outer", manifest, source)
    assert kernel.text(dependency + "\nouter::all()") == '"0.1.0 0.1.0 one false"'
    for path, old, new, result in (
        ("outer/Cargo.toml", "0.1.0", "0.2.0", "0.2.0 0.1.0 one false"),
        ("outer/Cargo.toml", "loud = []", 'loud = []\ndefault = ["loud"]', "0.2.0 0.1.0 one true"),
        ("inner/Cargo.toml", "0.1.0", "0.3.0", "0.2.0 0.3.0 one true"),
        ("Cargo.toml", "one", "two", "0.2.0 0.3.0 two true"),
        ("inner/src/lib.rs", "CARGO_PKG_VERSION", "CARGO_PKG_NAME", "0.2.0 inner two true"),
    ):
        edit(tmp_path / path, old, new)
        assert kernel.text("outer::all()") == f'"{result}"', path


SLOW = 'fn main() { std::thread::sleep(std::time::Duration::from_secs(2)); }'


@pytest.mark.long
def test_a_long_build_shows_its_progress_and_removes_it(kernel, tmp_path):
    assert not [kind for kind, _ in kernel.run("1", progress=True)[1] if kind != "execute_result"]
    dependency = write_crate(tmp_path / "slow", build=SLOW)
    reply, shown = kernel.run(dependency + '\nprintln!("done");', progress=True)
    assert reply["status"] == "ok", reply
    kinds = [kind for kind, _ in shown]
    texts = [content["data"]["text/plain"] for _, content in shown if "data" in content]
    assert kinds[0] == "display_data" and kinds[-2:] == ["clear_output", "stream"], shown
    assert set(kinds[1:-2]) <= {"update_display_data"}
    assert len({content["transient"]["display_id"] for _, content in shown if "data" in content}) == 1
    assert any(text.startswith("Compiling ") and " of " in text and "slow" in text for text in texts), texts
    # A cell that fails keeps nothing of it, too.
    dependency = write_crate(tmp_path / "slower", build=SLOW)
    _, shown = kernel.run(dependency + "\nno_such();", progress=True)
    assert [kind for kind, _ in shown][-2:] == ["clear_output", "error"]


@pytest.mark.long
def test_a_notebook_keeps_no_progress(tmp_path):
    dependency = write_crate(tmp_path / "slow_in_notebook", build=SLOW)
    cells = [nbformat.v4.new_code_cell(dependency), nbformat.v4.new_code_cell('println!("done");')]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="vitlab", timeout=LIMIT, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    assert notebook.cells[0].outputs == []
    assert [it["text"] for it in notebook.cells[1].outputs] == ["done\n"]


def test_a_long_build_can_be_interrupted(kernel, tmp_path):
    dependency = write_crate(tmp_path / "endless", build=SLOW.replace("2", "400"))
    request = kernel.send(dependency)
    shown = []
    for kind, content in kernel.messages(request):
        shown.append(kind)
        if kind == "display_data":
            interrupt(kernel)
            started = time.monotonic()
    assert kernel.reply(request)["ename"] == "Interrupted"
    assert time.monotonic() - started < 10
    assert shown[-2:] == ["clear_output", "error"]
    assert kernel.run("1 + 1")[1][-1][1]["data"]["text/plain"] == "2"


# As much of tokio as evcxr uses.
TOKIO = """
pub mod runtime {
    pub struct Runtime(#[allow(dead_code)] u8);
    impl Runtime {
        pub fn new() -> std::io::Result<Self> { Ok(Runtime(0)) }
        pub fn block_on<F: std::future::Future>(&self, future: F) -> F::Output {
            let mut future = std::pin::pin!(future);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            loop { if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) { return value } }
        }
    }
}
"""


@pytest.mark.long
def test_a_changed_tokio_keeps_cells_and_variables(own, tmp_path):
    dependency = write_crate(tmp_path / "tokio", "[features]\nmore = []\n", TOKIO)
    own.text(dependency + "\nasync fn three() -> i32 { 3 }\nlet kept = 7;\nlet n = three().await;")
    more = dependency.replace(" }", ', features = ["more"] }')
    own.text(more)
    assert own.text("three().await + kept + n") == "13"
    own.text("fn unrelated() {}")
    # In the cell of the dependency, with `?`, and with the dependency that is known already.
    own.text(dependency + '\nlet m = three().await + "1".parse::<i32>()?;')
    own.text(dependency)
    assert own.text("m + kept") == "11"
    assert "invalid digit" in own.run('"x".parse::<i32>()?; three().await')[0]["evalue"]
    # Nothing announces the change of a manifest.
    edit(tmp_path / "tokio/Cargo.toml", "0.1.0", "0.2.0")
    reply, _ = own.run("three().await")
    assert ":restart" in reply["evalue"] and "tokio" in reply["evalue"], reply
    own.text(":restart")
    assert own.text("three().await") == "3"


@pytest.mark.long
def test_tokio_with_all_features_after_the_first_await(own):
    own.text("async fn three() -> i32 { 3 }\nprintln!(\"{}\", three().await);")
    own.text(':dep tokio = { version = "1", features = ["full"] }\n:dep tokio-stream = "0.1"')
    second = "std::time::Duration::from_secs(1)"
    for code, printed in (
        ('println!("{}", three().await + "1".parse::<i32>()?);', "4\n"),
        (f'tokio::select! {{ a = three() => println!("{{a}}"), _ = tokio::time::sleep({second}) => println!("late") }}', "3\n"),
        (f'println!("{{}}", tokio::time::timeout({second} / 50, std::future::pending::<()>()).await.is_err());', "true\n"),
        (
            "use tokio_stream::StreamExt;\nlet mut numbers = tokio_stream::iter([1, 2]);\n"
            'while let Some(n) = numbers.next().await { println!("{n}"); }',
            "1\n2\n",
        ),
        ("#[tokio::main]\nasync fn main() { println!(\"main {}\", three().await); }\nmain();", "main 3\n"),
        ("main();\nprintln!(\"{}\", three().await);", "main 3\n3\n"),
        ("#[tokio::main]\nasync fn main() -> Result<(), std::num::ParseIntError> { println!(\"{}\", \"5\".parse::<i32>()?); Ok(()) }", ""),
        ("main()?;", "5\n"),
    ):  # fmt: skip
        assert own.text(code) == printed, code


def test_items_that_evcxr_mistakes_are_kept(kernel):
    assert kernel.text("extern crate alloc;\nalloc::vec![1, 2]") == "[1, 2]"
    assert kernel.text("use alloc::collections::BTreeMap;\nBTreeMap::<i32, i32>::new().len()") == "0"
    assert kernel.text("extern crate core as c;\nc::mem::size_of::<u8>()") == "1"
    kernel.text("use std::cell::Cell;\nthread_local! {\n    static FIRST: Cell<i32> = const { Cell::new(7) };\n    pub static SECOND: i32 = 1;\n}")
    assert kernel.text("FIRST.set(FIRST.get() + 1);\nFIRST.get() + SECOND.with(|n| *n)") == "9"
    reply, shown = kernel.run("let a = 1;\nthread_local! { static A: i32 = \"x\"; }")
    assert reply["ename"] == "E0308"
    assert "expected `i32`" in "".join(shown[-1][1]["traceback"]), shown[-1]


def test_a_static_that_begins_anew_is_told_once(own):
    definition = "use std::sync::{LazyLock, Mutex};\nstatic LIST: LazyLock<Mutex<Vec<i32>>> = LazyLock::new(|| Mutex::new(vec![]));\n"
    reply, shown = own.run(definition + "LIST.lock().unwrap().push(1);")
    assert reply["status"] == "ok"
    assert "`LIST` begins anew" in output(shown, "stderr") and "variable" in output(shown, "stderr")
    assert own.text("LIST.lock().unwrap().len()") == "0"
    assert output(own.run(definition)[1], "stderr") == ""


@pytest.mark.long
def test_a_pool_of_rayon_needs_shared_statics(own):
    own.text(':dep rayon = "1"\nlet pool = rayon::ThreadPoolBuilder::new().num_threads(3).build()?;')
    use = "pool.install(|| rayon::current_num_threads())"
    told = "".join(own.run(use)[1][-1][1]["traceback"])
    assert ":allow_static_linking 0" in told
    own.text(":restart\n:allow_static_linking 0")
    own.text("rayon::ThreadPoolBuilder::new().num_threads(5).build_global()?;\nlet pool = rayon::ThreadPoolBuilder::new().num_threads(3).build()?;")
    assert [own.text(use), own.text("rayon::current_num_threads()")] == ["3", "5"]


@pytest.mark.long
def test_a_crate_that_depends_on_the_clones_crate(own, tmp_path):
    # The set-up's build of the clone's crate serves cells alone. A crate beside it needs one of the original folder.
    clone = (NOTEBOOKS / "../crate").resolve()
    source = "pub fn patches(config: &vitlab::Config) -> i64 { config.n_patches() }\n"
    dependency = write_crate(tmp_path / "mine", f'[dependencies]\nvitlab = {{ path = "{clone}" }}\n', source)
    own.text(':dep vitlab = { path = "../crate" }\nlet before = vitlab::Config::default().n_patches();')
    own.text(dependency)
    assert own.text("mine::patches(&vitlab::Config::default()) == before") == "true"
    own.text(':dep vitlab = { path = "../crate" }\nlet config = vitlab::Config::default();')
    assert own.text("mine::patches(&config)") == "49"


def test_a_wrapper_of_the_user_compiles_crates_but_no_cell(own, tmp_path):
    log, wrapper = tmp_path / "log", tmp_path / "wrapper.sh"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\nexec "$@"\n')
    wrapper.chmod(0o755)
    own.text(f":env RUSTC_WRAPPER={wrapper}")
    own.text(write_crate(tmp_path / "wrapped", source="pub fn three() -> i32 { 3 }") + "\nlet n = wrapped::three();")
    assert own.text("n") == "3"
    logged = log.read_text()
    assert "--crate-name wrapped " in logged and "--crate-name ctx " not in logged
