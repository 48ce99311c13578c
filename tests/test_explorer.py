"""Tests the explorer in a headless Chromium: its page, and in a notebook's cell in JupyterLab and in exported HTML.

A hover, a tap and keys show the numbers of the tensors; a figure stands there where scripts are off. Skipped without Chromium
and playwright; the beginning of test_browser.py says how to install them. Needs `.venv/bin/vitlab` and the kernel.
"""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from safetensors.torch import load_file

from test_browser import Notebook, lab  # noqa: F401 (a fixture)
from test_kernel import CRATE

ROOT = Path(__file__).parent.parent
VITLAB = ROOT / ".venv/bin/vitlab"
SHOTS = ROOT / "target/browser-shots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed; test_browser.py says how to install it")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")

# The model, its side of the grid and its tokens before the patches.
MODELS = {"ViT": (7, ["class token"]), "DeiT": (7, ["class token", "distillation token"])}
LARGEST = 300_000


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=MODELS)
def made(request, tmp_path_factory):
    """The model's name, the page of a test image, the image's attention [L, H, S, S] and its rollout's row of a patch [S]."""
    folder = tmp_path_factory.mktemp("explorer")
    common = ["--weights", ROOT / f"models/{request.param}_model.pt", "--data", "synthetic", "--range", "7..8"]
    subprocess.run([VITLAB, "explain", *common, "--out", folder / "page.html"], check=True)
    subprocess.run([VITLAB, "predict", *common, "--attention", "--out", folder / "attention.safetensors"], check=True)
    return request.param, folder / "page.html", load_file(folder / "attention.safetensors")["attention"][0]


@contextlib.contextmanager
def opened(browser, path, **options):
    """A page of a file, which must not fail."""
    context = browser.new_context(**options)
    page = context.new_page()
    failures, requests = [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert not failures
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    context.close()


def patch(frame, line, column, grid=7):
    box = frame.locator("#picture").bounding_box()
    return {"x": box["width"] * (column + 0.5) / grid, "y": box["height"] * (line + 0.5) / grid}


def rolled_out(attention):
    """The rollout's matrix [S, S]: the product of the layers' mean attention plus the identity, each row divided by its sum."""
    result = None
    for layer in attention.double().mean(1):
        mixed = layer + layer.new_ones(len(layer)).diag()
        mixed = mixed / mixed.sum(-1, keepdim=True)
        result = mixed if result is None else mixed @ result
    return result


def check_row(frame, attention, query, layer=None, head=-1):
    """Compares the row that the page shows with the tensors. A row's values are exact to a step of its greatest value."""
    shown = frame.locator("body").evaluate("() => window.explorer")
    state = shown["state"]
    assert (state["query"], state["rolled"]) == (query, layer is None)
    if layer is None:
        expected = rolled_out(attention)[query]
        greatest = expected.max().item()
    else:
        assert (state["layer"], state["head"]) == (layer, head)
        heads = attention[layer, :, query]
        expected = heads.mean(0) if head < 0 else heads[head]
        greatest = heads.max().item()
    assert max(abs(a - b) for a, b in zip(shown["row"], expected.tolist(), strict=True)) <= greatest / 255 + 1e-6


def picture(frame):
    return frame.locator("#picture").evaluate("canvas => canvas.toDataURL()")


def brightest(frame):
    """The line and column of the patch whose colour on the canvas is the brightest, drawn without the picture."""
    script = """() => {
        const canvas = document.querySelector("#heads button canvas"), context = canvas.getContext("2d");
        const [wide, high] = [canvas.width / 7, canvas.height / 7];
        let best = [-1, 0, 0];
        for (let line = 0; line < 7; line++) for (let column = 0; column < 7; column++) {
            const pixel = context.getImageData((column + 0.5) * wide, (line + 0.5) * high, 1, 1).data;
            const sum = pixel[0] + pixel[1] + pixel[2];
            if (sum > best[0]) best = [sum, line, column];
        }
        return best.slice(1);
    }"""
    return frame.locator("body").evaluate(script)


def walk(frame, attention, prefix, press, point):
    """Hovers, clicks and presses keys. The row that is shown must be that of the tensors each time, on a changed picture."""
    last, before = len(attention) - 1, picture(frame)
    frame.locator("#picture").hover(position=patch(frame, 2, 5))
    check_row(frame, attention, prefix + 2 * 7 + 5)
    frame.locator("#single").click()
    frame.locator("#picture").hover(position=patch(frame, 4, 3))
    check_row(frame, attention, prefix + 4 * 7 + 3, last)
    hovered = picture(frame)
    assert hovered != before
    point(patch(frame, 0, 6))
    check_row(frame, attention, prefix + 6, last)
    assert picture(frame) != hovered
    # A kept patch stays while the pointer moves.
    frame.locator("#picture").hover(position=patch(frame, 3, 3))
    check_row(frame, attention, prefix + 6, last)
    keys = [("h", prefix + 6, last, 0), ("Shift+L", prefix + 6, last - 1, 0), ("ArrowDown", prefix + 13, last - 1, 0), ("ArrowRight", prefix + 7, last - 1, 0)]
    for key, query, layer, head in keys + [("c", 0, last - 1, 0)]:
        seen = picture(frame)
        press(key)
        check_row(frame, attention, query, layer, head)
        assert picture(frame) != seen
    # The first head's own picture is brightest at the patch with its greatest value.
    patches = attention[last - 1, 0, 0, prefix:]
    assert brightest(frame) == list(divmod(patches.argmax().item(), 7))
    press("r")
    check_row(frame, attention, 0)


def test_a_hover_a_click_and_keys_show_the_right_numbers(browser, made):
    name, path, attention = made
    with opened(browser, path) as page:
        page.wait_for_selector("body[data-ready=true]")
        assert page.locator("#tokens button").all_inner_texts() == MODELS[name][1]
        walk(page, attention, len(MODELS[name][1]), page.keyboard.press, lambda at: page.locator("#picture").click(position=at))
        for token, button in enumerate(MODELS[name][1]):
            page.get_by_role("button", name=button).click()
            check_row(page, attention, token)


def test_a_tap_shows_the_right_numbers_on_a_telephone(browser, made):
    name, path, attention = made
    prefix = len(MODELS[name][1])
    with opened(browser, path, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as page:
        page.wait_for_selector("body[data-ready=true]")
        # Nothing reaches beyond the screen.
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.locator("#picture").tap(position=patch(page, 5, 1))
        check_row(page, attention, prefix + 5 * 7 + 1)
        page.get_by_role("button", name="head 2").tap()
        check_row(page, attention, prefix + 5 * 7 + 1, len(attention) - 1, 1)


def test_a_screen_reader_reads_title_state_and_query(browser, made):
    name, path, _ = made
    with opened(browser, path) as page:
        page.wait_for_selector("body[data-ready=true]")
        assert "image 7" in page.title()
        assert page.get_by_role("heading", level=1).inner_text() == page.title()
        assert page.locator("#status").get_attribute("aria-live") == "polite"
        assert page.locator("#status").inner_text().startswith("class token, rolled out:")
        # From the keyboard alone: Tab reaches the picture, whose description is the state.
        page.keyboard.press("Tab")
        focused = page.evaluate("[document.activeElement.id, document.activeElement.getAttribute('aria-describedby')]")
        assert focused == ["picture", "status"]
        for key in ("ArrowRight", "l", "h"):
            page.keyboard.press(key)
        text = page.locator("#status").inner_text()
        assert text.startswith("patch in row 1, column 2 (kept), layer 1, head 1:"), text
        assert page.get_by_role("button", name="head 1", pressed=True).count() == 1


def test_the_page_is_small_and_needs_no_network(made):
    text = made[1].read_text()
    assert len(text) < LARGEST
    assert "http:" not in text and "https:" not in text


def test_a_figure_stands_there_without_scripts(browser, made):
    with opened(browser, made[1], java_script_enabled=False) as page:
        assert page.locator("noscript img").count() == 1
        assert page.locator("noscript img").bounding_box()["width"] > 300
        assert not page.locator("#single").is_visible()


# Cells of a notebook that explores the stand-in's image 7.
CELLS = [
    """use vitlab::data::{Dataset, Source, Split};
use vitlab::explain::{Heatmap, MapScale, Rollout};
use vitlab::learner::Method;
use vitlab::{Learner, tch::Device};""",
    f"""let learner = Learner::read("{ROOT}/models/ViT_model.pt", Device::Cpu)?;
let (image, _) = Dataset::read(&Source::Synthetic, Split::Test, Device::Cpu)?.range(7, 8);
let maps = learner.explain(&image, &Method::Rollout(Rollout::default()), &Heatmap::default(), |_| {{}})?;""",
    """let figure = maps.figure("Attention rollout", &image, None, MapScale::Max)?;
learner.explore("Attention in image 7", &image.get(0), &Rollout::default(), &figure)?""",
]


@pytest.fixture(scope="module")
def attention(tmp_path_factory):
    path = tmp_path_factory.mktemp("attention") / "attention.safetensors"
    common = ["--weights", ROOT / "models/ViT_model.pt", "--data", "synthetic", "--range", "7..8"]
    subprocess.run([VITLAB, "predict", *common, "--attention", "--out", path], check=True)
    return load_file(path)["attention"][0]


def frame_of(page):
    """The explorer's frame in a notebook's page, ready, and as high as its content."""
    page.locator("iframe").first.wait_for()
    frame = page.locator("iframe").first.content_frame
    frame.locator("body[data-ready=true]").wait_for()
    page.wait_for_function("() => { const f = document.querySelector('iframe'); return f.offsetHeight >= f.contentDocument.body.offsetHeight; }")
    return frame


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A notebook that was executed by the kernel, and its HTML."""
    folder = tmp_path_factory.mktemp("exported")
    cells = [CRATE.replace("../crate", str(ROOT / "crate")), *CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "vitlab", "display_name": "Rust (vitlab)", "language": "rust"}
    nbformat.write(notebook, folder / "explorer.ipynb")
    convert = [ROOT / ".venv/bin/jupyter", "nbconvert", "--execute", "--ExecutePreprocessor.timeout=600"]
    subprocess.run([*convert, "--to", "notebook", "--inplace", folder / "explorer.ipynb"], check=True)
    subprocess.run([ROOT / ".venv/bin/jupyter", "nbconvert", "--to", "html", folder / "explorer.ipynb"], check=True)
    return folder / "explorer.ipynb", folder / "explorer.html"


def opened_offline(browser, path, **options):
    """The exported notebook without a network: nbconvert's HTML asks for MathJax."""
    context = browser.new_context(**options)
    context.route(re.compile("^https?:"), lambda route: route.abort())
    page = context.new_page()
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    return page


def test_in_exported_html(exported, browser, attention):
    page = opened_offline(browser, exported[1], viewport={"width": 1200, "height": 1000})
    frame = frame_of(page)
    walk(frame, attention, 1, frame.locator("#picture").press, lambda at: frame.locator("#picture").click(position=at))
    assert page.locator(".jp-OutputArea-output img").count() == 0
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "explorer-exported.png", full_page=True)
    page.context.close()


def test_the_figure_in_exported_html_without_scripts(exported, browser):
    page = opened_offline(browser, exported[1], java_script_enabled=False)
    image = page.locator(".jp-OutputArea-output img")
    assert image.count() == 1 and image.bounding_box()["width"] > 300
    assert image.get_attribute("alt").startswith("Attention rollout")
    assert page.locator("iframe").count() == 0
    page.context.close()


def test_the_output_holds_the_figure_and_the_page(exported):
    notebook = nbformat.read(exported[0], as_version=4)
    (data,) = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "text/html" in output.get("data", {})]
    # For PDF and for GitHub the figure is there as a picture.
    assert data["image/png"] and data["text/plain"].startswith("Attention rollout")
    assert len(data["text/html"]) < LARGEST


def test_in_jupyterlab(exported, lab, browser, attention):  # noqa: F811
    # The export has built the crate for the kernel, which can take longer than a page waits.
    with Notebook(lab, browser, "explorer", CELLS) as notebook:
        notebook.menu("Run", "Run All Cells")
        assert notebook.done() == ["1", "2", "3", "4"]
        assert notebook.errors() == []
        frame = frame_of(notebook.page)
        walk(frame, attention, 1, frame.locator("#picture").press, lambda at: frame.locator("#picture").click(position=at))
        notebook.shot("explorer")
        # The keys reached the page alone: no cell was added or removed.
        assert len(notebook.prompts()) == 4
