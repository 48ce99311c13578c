"""Tests the kernel `vitlab` in JupyterLab and Notebook 7, in a headless Chromium.

Skipped if these aren't installed. No other part of vitlab needs them:

    apt-get install chromium
    .venv/bin/python -m pip install --target target/browser playwright==1.65.2 notebook==7.6.5
    PYTHONPATH=$PWD/target/browser .venv/bin/python -m pytest tests/test_browser.py

Writes screenshots into target/browser-shots.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from test_kernel import CRATE, FAULTS, LOOP, TRAINING

ROOT = Path(__file__).parent.parent
SHOTS = ROOT / "target/browser-shots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Milliseconds for one cell, on a busy machine.
LIMIT = 180_000

playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed; the beginning of this file says how to install it")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running JupyterLab: its folder and the address of its notebooks."""
    with serving(tmp_path_factory, "jupyterlab", "LabApp") as (folder, address):
        yield folder, address + "/lab/tree"


@pytest.fixture(scope="module")
def notebook_7(tmp_path_factory):
    """A running Notebook 7: its folder and the address of its notebooks."""
    pytest.importorskip("notebook", reason="Notebook 7 isn't installed; the beginning of this file says how to install it")
    with serving(tmp_path_factory, "notebook", "JupyterNotebookApp") as (folder, address):
        yield folder, address + "/notebooks"


@contextlib.contextmanager
def serving(tmp_path_factory, module, app):
    """Runs a server without the user's settings. Yields its folder and its address."""
    folder, own = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    # A question about news would cover the notebook.
    settings = own / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = dict(
        os.environ,
        VITLAB_DATA="synthetic",
        JUPYTERLAB_SETTINGS_DIR=str(own / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(own / "workspaces"),
        JUPYTER_CONFIG_DIR=str(own / "config"),
        JUPYTER_RUNTIME_DIR=str(own / "runtime"),
    )
    command = [ROOT / ".venv/bin/python", "-m", module, "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--{app}.expose_app_in_browser=True", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    with open(own / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(address + "/api/status"), f"{module} to start")
        yield folder, address
    finally:
        server.terminate()
        server.wait(30)


def answers(address):
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def wait_for(condition, event, limit=LIMIT):
    deadline = time.monotonic() + limit / 1000
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {event}"
        time.sleep(0.2)
    return found


# Whether the notebook has a kernel. JupyterLab would otherwise ask for one.
READY = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return session?.isReady && session.session?.kernel?.status === "idle";
}"""


ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap((cell, number) =>
    cell.model.outputs.toJSON().filter(output => output.output_type === "error").map(output => [number, output.ename, output.evalue]))"""


class Notebook:
    """A notebook that is open in a browser, with its kernel ready."""

    def __init__(self, lab, browser, name, cells):
        folder, address = lab
        cells = [CRATE.replace("../crate", str(ROOT / "crate")) + "\nuse vitlab::{Error, tch::{self, Tensor}};", *cells]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "vitlab", "display_name": "Rust (vitlab)", "language": "rust"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
        self.name, self.page = name, browser.new_page(viewport={"width": 1200, "height": 1000})
        self.page.set_default_timeout(LIMIT)
        self.page.goto(f"{address}/{name}.ipynb?reset", wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        self.page.wait_for_function(READY)

    def menu(self, top, item):
        self.page.locator(f".lm-MenuBar-itemLabel:text-is('{top}')").click()
        self.page.locator(f".lm-Menu-itemLabel:text-is('{item}')").click()

    def prompts(self):
        """Returns the text in brackets beside each cell: `*` while it runs or waits."""
        return [text.strip("[]: \n") for text in self.page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts()]

    def done(self):
        """Waits until no cell runs or waits, and returns the prompts."""
        wait_for(lambda: "*" not in self.prompts(), f"the end of {self.name}")
        return self.prompts()

    def outputs(self, cell):
        return self.page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea-output")

    def errors(self):
        """Returns the cell's number, the name and the text of each error among the outputs."""
        return self.page.evaluate(ERRORS)

    def shot(self, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.shot(f"{self.name}-failed")
        else:
            self.menu("Kernel", "Shut Down Kernel")
            self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator:not([data-status='idle'])")
        self.page.close()


EPOCHS = 14


def test_a_training_is_seen_interrupted_and_run_again(lab, browser):
    cells = [TRAINING.replace("EPOCHS", str(EPOCHS)), LOOP, "trainer.history.epochs.len()"]
    with Notebook(lab, browser, "training", cells) as notebook:
        notebook.menu("Run", "Run All Cells")
        bar = notebook.page.locator(".jp-OutputArea progress")
        curve = notebook.page.locator(".jp-OutputArea img")
        bar.first.wait_for()
        curve.first.wait_for()
        before = bar.first.get_attribute("value"), curve.first.get_attribute("src")
        notebook.shot("training-1")
        wait_for(lambda: bar.first.get_attribute("value") != before[0], "the bar to move")
        wait_for(lambda: curve.first.get_attribute("src") != before[1], "the curve to grow")
        # Both changed in place.
        assert (bar.count(), curve.count()) == (1, 1)
        notebook.shot("training-2")
        notebook.menu("Kernel", "Interrupt Kernel")
        # The training stopped after a step: its cell is done, and the next one didn't run.
        assert notebook.done() == ["1", "2", "3", ""]
        assert notebook.outputs(3).count() == 0
        notebook.shot("training-interrupted")
        notebook.page.locator(".jp-CodeCell").nth(3).locator(".cm-content").click()
        notebook.page.keyboard.press("Control+Enter")
        notebook.outputs(3).first.wait_for()
        epochs = int(notebook.outputs(3).first.inner_text())
        assert 1 <= epochs < EPOCHS

        notebook.menu("Kernel", "Restart Kernel and Run All Cells…")
        notebook.page.locator(".jp-Dialog .jp-mod-accept").click()
        wait_for(lambda: "*" in notebook.prompts(), "the restart")
        assert notebook.done() == ["1", "2", "3", "4"]
        assert notebook.outputs(3).first.inner_text() == str(EPOCHS)
        assert f"{EPOCHS} epochs" in notebook.outputs(2).first.inner_text()
        assert notebook.errors() == []
        notebook.shot("training-again")


@pytest.mark.parametrize("fault", FAULTS)
def test_run_all_stops_at_a_fault(lab, browser, fault):
    stops(lab, browser, fault)


def test_notebook_7_stops_at_a_fault(notebook_7, browser):
    stops(notebook_7, browser, "panic")


def stops(server, browser, fault):
    code, name, part, _ = FAULTS[fault]
    with Notebook(server, browser, f"fault-{list(FAULTS).index(fault)}", [code, 'println!("went on");']) as notebook:
        notebook.menu("Run", "Run All Cells")
        assert notebook.done() == ["1", "2", ""]
        notebook.shot(notebook.name)
        ((cell, ename, evalue),) = notebook.errors()
        assert (cell, ename) == (1, name) and part in evalue
        # The page shows it, too.
        assert part in notebook.outputs(1).last.inner_text()
        assert notebook.outputs(2).count() == 0
