"""Tests `cargo lab export`: HTML and slides in one file without a network, the explorer alive in them, and PDF.

What needs Chromium is skipped without it, what reads PDF without poppler-utils.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from test_check import picture

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "lab/src/python"))
from export import linked, markdown  # noqa: E402 (the program's own functions)

LAB = Path(sys.prefix) / "bin" / "lab"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")
needs_poppler = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="apt-get install poppler-utils")

# As the explorer embeds its page (crate/src/explain/explorer.rs): a script replaces the picture by a frame.
FRAME = """<div><img alt="before" src="data:image/png;base64,PICTURE"><script>
(image => {
const frame = document.createElement("iframe");
frame.srcdoc = "<p id=alive>dead</p><script>document.getElementById('alive').textContent = 'alive'</" + "script>";
frame.addEventListener("load", () => { document.body.dataset.frame = frame.contentDocument.getElementById("alive").textContent; });
image.replaceWith(frame);
})(document.currentScript.previousElementSibling);
</script></div>"""
LONG = "let sum = " + " + ".join(f"a_long_name_number_{number}" for number in range(30)) + "; // the_end_of_the_line"
FORMULAS = r"""Inline $\tfrac12 A + \sqrt{2}$ and $\lVert X - \mathbf{1}\bar{x}^\top \rVert$.

$$\mathcal{L} = \operatorname{argmax}_c Z_t(c)$$

\begin{align} a &= b \\ c &= d \end{align}

Not understood: $\nosuchcommand{\left(}$"""


def content():
    cells = [
        new_markdown_cell('# A "small" notebook\n\n*Author: Mara Muster · Course: Deep Vision · Date: today*'),
        new_markdown_cell("## Formulas\n\n" + FORMULAS),
        new_markdown_cell("![the logo](logo.png)\n\n| a | b |\n|---|---|\n| one | 2 |\n\n[next](2_next.ipynb#Two)"),
        new_code_cell(LONG, execution_count=1),
        new_code_cell("figure", execution_count=2),
        new_code_cell("explorer", execution_count=3),
        new_code_cell("many", execution_count=4),
        new_markdown_cell("<details><summary>Answer</summary>\n\nIt is **folded**.\n\n</details>\n\n### The last words"),
    ]
    figure = {"image/png": picture(9), "text/plain": "a figure"}
    described = {"image/png": {"alt": 'three "patches"'}}
    cells[4].outputs = [new_output("execute_result", figure, metadata=described, execution_count=2)]
    html = {"text/html": FRAME.replace("PICTURE", picture(8)), "image/png": picture(7)}
    described = {"image/png": {"alt": "the explorer's figure"}}
    cells[5].outputs = [new_output("execute_result", html, metadata=described, execution_count=3)]
    cells[6].outputs = [new_output("stream", text="".join(f"line {number}\n" for number in range(120)))]
    return new_notebook(cells=cells, metadata={"language_info": {"name": "Rust", "pygments_lexer": "rust"}})


def export(*arguments):
    return subprocess.run([LAB, "export", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of the small notebook's exports."""
    folder = tmp_path_factory.mktemp("export")
    nbformat.write(content(), folder / "small.ipynb")
    (folder / "logo.png").write_bytes(b"\x89PNG logo")
    formats = "html,slides,pdf" if CHROMIUM else "html,slides"
    done = export(folder / "small.ipynb", "--to", formats, "--out", folder / "out")
    if "pip can't" in done.stderr or "No matching distribution" in done.stderr:
        pytest.skip("pip can't download reveal.js")
    assert done.returncode == 0, done.stderr
    assert "a formula stays as TeX" in done.stderr and "nosuchcommand" in done.stderr
    return folder / "out"


def dom(path, folder):
    """Returns the page's HTML after its scripts ran."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["small.html", "small.slides.html"])
def test_a_page_is_one_file_with_formulas_and_descriptions(written, name):
    text = (written / name).read_text()
    markup = re.sub(r"(<script\b[^>]*>).*?</script>", r"\1", text, flags=re.S)
    assert re.findall(r"<(?:script|img|link|iframe)[^>]*\b(?:src|href)=\"(?!data:)([^\"]*)", markup) == []
    assert "ajax/libs/mathjax" not in text
    # Two inline, one displayed and an environment; the one that isn't understood stays.
    assert text.count("<math ") == 4
    assert r"<code>\nosuchcommand" in text
    assert 'alt="three &quot;patches&quot;"' in text or "alt='three \"patches\"'" in text
    assert "No description has been provided" not in text
    assert "data:image/png;base64,iVBORyBsb2dv" in text or 'alt="the logo" src="data:image/png' in text
    assert 'content="Author: Mara Muster · Course: Deep Vision · Date: today"' in text


@pytest.mark.parametrize("name", ["small.html", "small.slides.html"])
def test_a_folded_answer_holds_its_text(written, name):
    text = (written / name).read_text()
    assert re.search(r"<details><summary>Answer</summary>\s*<p>It is <strong>folded</strong>\.</p>\s*</details>", text)


@pytest.mark.parametrize("kind, ending", [("html", ".html"), ("slides", ".slides.html")])
def test_a_link_to_a_notebook_leads_to_its_page(written, kind, ending):
    text = (written / f"small{ending}").read_text()
    assert f'<a href="2_next{ending}#Two">next</a>' in text
    assert linked('<a href="a.ipynb">x</a>', kind) == f'<a href="a{ending}">x</a>'
    for other in ['<a href="https://example.org/a.ipynb">', '<a href="#a.ipynb">', '<a href="a.py">']:
        assert linked(other, kind) == other
    assert linked('<a href="a.ipynb#Two" class="b">x</a>', "print") == '<a class="b">x</a>'


@needs_chromium
def test_a_script_in_an_output_lives_in_html_and_slides(written, tmp_path):
    assert 'data-frame="alive"' in dom(written / "small.html", tmp_path)
    slides = dom(written / "small.slides.html", tmp_path)
    assert 'data-frame="alive"' in slides
    # reveal.js has taken over: it marks the slide that is shown.
    assert re.search(r'<section[^>]*class="[^"]*present', slides)


@needs_chromium
@needs_poppler
def test_pdf_has_pages_numbers_title_author_and_whole_lines(written):
    pdf = written / "small.pdf"
    info = subprocess.run(["pdfinfo", pdf], capture_output=True, text=True, check=True).stdout
    pages = int(re.search(r"Pages:\s+(\d+)", info)[1])
    assert pages >= 2 and 'A "small" notebook' in info
    layout = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    for number, page in enumerate(layout.split("\f")[:pages], 1):
        assert f"{number}/{pages}" in "".join(page.split())
        assert 'A "small" notebook' in page and "Mara Muster" in page
    text = "".join(layout.split())
    # Nothing of a long line or a long output is cut off.
    assert "a_long_name_number_29;//the_end_of_the_line" in text
    assert all(f"line{number}" in text for number in range(120))
    # Nobody can unfold an answer on paper.
    assert "Itisfolded" in text and "Thelastwords" in text
    # The figure, and the one that takes the explorer's place on paper, at their full resolution.
    images = subprocess.run(["pdfimages", "-list", pdf], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"image\s+8\s+8\s", images)) == 2, images


def test_every_formula_of_the_notebooks_is_typeset(capsys):
    sources = [
        cell.source
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown" and "$" in cell.source
    ]
    pages = "".join(map(markdown, sources))
    assert capsys.readouterr().out == ""
    assert pages.count("<math ") >= 30
    assert not re.search(r"\$[^$<]{1,80}\$", pages)


def test_without_chromium_pdf_is_one_sentence(tmp_path):
    done = subprocess.run(
        [LAB, "export", "0", "--to", "pdf", "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, env={"PATH": "/nowhere"}
    )
    assert done.returncode == 1
    assert "apt-get install chromium" in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
