"""Tests the explorer page in a headless Chromium: a hover, a tap and keys show the numbers of the tensors.

Skipped without Chromium and playwright; the beginning of test_browser.py says how to install them. Needs `.venv/bin/vitlab`.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent
VITLAB = ROOT / ".venv/bin/vitlab"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed; test_browser.py says how to install it")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page of a test image, and the image's attention [L, H, S, S]."""
    folder = tmp_path_factory.mktemp("explorer")
    common = ["--weights", ROOT / "models/ViT_model.pt", "--data", "synthetic", "--range", "7..8"]
    subprocess.run([VITLAB, "explain", *common, "--out", folder / "page.html"], check=True)
    subprocess.run([VITLAB, "predict", *common, "--attention", "--out", folder / "attention.safetensors"], check=True)
    return folder / "page.html", load_file(folder / "attention.safetensors")["attention"][0]


@pytest.fixture
def page(made):
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        page = browser.new_page()
        failures = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(made[0].as_uri())
        page.wait_for_selector("body[data-ready=true]")
        yield page
        assert not failures
        browser.close()


def patch(page, line, column):
    box = page.locator("#picture").bounding_box()
    return {"x": box["width"] * (column + 0.5) / 7, "y": box["height"] * (line + 0.5) / 7}


def check_row(page, attention, query, layer, head):
    """Compares the row that the page shows with the tensor. A row's values are exact to a step of its greatest value."""
    shown = page.evaluate("window.explorer")
    assert (shown["state"]["query"], shown["state"]["layer"], shown["state"]["head"]) == (query, layer, head)
    heads = attention[layer, :, query]
    expected = heads.mean(0) if head < 0 else heads[head]
    assert max(abs(a - b) for a, b in zip(shown["row"], expected.tolist())) <= heads.max().item() / 255 + 1e-6


def test_a_hover_a_tap_and_keys_show_the_right_numbers(page, made):
    attention = made[1]
    page.locator("#single").click()
    page.locator("#picture").hover(position=patch(page, 4, 3))
    check_row(page, attention, 1 + 4 * 7 + 3, 5, -1)
    before = page.locator("#picture").screenshot()
    page.locator("#picture").click(position=patch(page, 0, 6))
    check_row(page, attention, 1 + 6, 5, -1)
    assert page.locator("#picture").screenshot() != before
    # A kept patch stays while the pointer moves.
    page.locator("#picture").hover(position=patch(page, 3, 3))
    check_row(page, attention, 1 + 6, 5, -1)
    for key, query, layer, head in [("h", 7, 5, 0), ("Shift+L", 7, 4, 0), ("ArrowDown", 14, 4, 0), ("c", 0, 4, 0)]:
        page.keyboard.press(key)
        check_row(page, attention, query, layer, head)


def test_the_page_is_small_and_needs_no_network(made):
    text = made[0].read_text()
    assert len(text) < 300_000
    assert "http:" not in text and "https:" not in text
