"""Writes a notebook as pages that need no network: HTML, a page for printing, slides.

usage: export.py JSON   with the fields notebook (path), folder (of the pictures that Markdown names), pages (pairs of a kind,
"html", "print" or "slides", and the path to write) and reveal (path of a wheel that holds reveal.js; for slides)

A line on standard output that begins with "! " tells about a part of the notebook that a page lacks.
"""

import html
import json
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter, SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

# Changes Jupyter's page: it loads nothing, figures have their descriptions, long lines of code wrap instead of being cut off,
# text in outputs wraps between words, wide tables get less padding in a narrow window, listings in outputs use the font of code, and
# differences have colours.
PAGE = """{% extends "lab/index.html.j2" %}
{% block html_head_js_requirejs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_css %}{{ super() }}<meta name="author" content="{{ nb.metadata.author | e }}"><style>STYLE</style>{% endblock %}
FIGURES"""

SLIDES = """{% extends "reveal/index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_css %}{{ super() }}<meta name="author" content="{{ nb.metadata.author | e }}"><style>STYLE</style>{% endblock %}
{% block footer_js %}<script>{{ resources.reveal_script }}</script>
<script>Reveal.initialize({ hash: true, slideNumber: "c/t", transition: "none", center: false, width: 1180, height: 720 });</script>
{% endblock %}
FIGURES"""

FIGURES = """{% block data_png scoped %}{{ super() | described(output, "image/png") }}{% endblock %}
{% block data_jpg scoped %}{{ super() | described(output, "image/jpeg") }}{% endblock %}
{% block data_svg scoped %}{{ super() | described(output, "image/svg+xml") }}{% endblock %}
{% block data_latex scoped %}<div class="jp-RenderedHTMLCommon jp-OutputArea-output">{{ output.data["text/latex"] | typeset }}</div>{% endblock %}"""

STYLE = """
.highlight pre { font-family: var(--jp-code-font-family); font-size: var(--jp-code-font-size); white-space: pre-wrap; overflow-wrap: anywhere; }
.jp-RenderedText pre { word-break: normal; overflow-wrap: anywhere; }
.jp-RenderedHTMLCommon details { margin-bottom: 1em; }
@media (max-width: 900px) { .jp-RenderedHTML :is(td, th) { padding: 0.3em; } }
.highlight .gd { color: #a40000; }
.highlight .gi { color: #00702a; }
/* Browsers draw this themselves, but for bold letters. */
math [mathvariant=bold] { font-weight: bold; }
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", "TeX Gyre Termes Math", math, serif; font-size: 1.1em; }
"""

# A4. Numbers beside cells take less room, nothing is cut off, and a figure or a table's row stays on one page.
PRINT = """
@page {
  size: A4; margin: 20mm 15mm 18mm;
  @top-left { content: "TITLE"; font: 8pt sans-serif; color: #555; }
  @top-right { content: "AUTHOR"; font: 8pt sans-serif; color: #555; }
  @bottom-center { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #555; }
}
:root { --jp-cell-prompt-width: 46px; --jp-content-font-size1: 12px; --jp-code-font-size: 10.5px; --jp-ui-font-size1: 11px; }
body.jp-Notebook, .jp-Notebook .jp-Cell { padding-left: 0; padding-right: 0; }
.jp-Notebook :is(.jp-InputArea, .jp-OutputArea-child) { display: block; position: relative; }
.jp-Notebook :is(.jp-InputPrompt, .jp-OutputPrompt) { position: absolute; left: 0; top: 0; width: 44px; padding: 2px 0; font-size: 9px; text-align: left; }
.jp-Notebook :is(.jp-MarkdownOutput, .jp-InputArea-editor, .jp-OutputArea-output) { display: block; width: auto; margin-left: 46px; padding-left: 0; }
.jp-Notebook .jp-MarkdownOutput { margin-left: 0; }
.jp-Notebook :is(pre, code) { white-space: pre-wrap; overflow-wrap: anywhere; }
.jp-RenderedHTMLCommon pre code { white-space: pre-wrap; }
/* A box that scrolls is never broken between two pages. */
.jp-Notebook * { overflow: visible !important; }
.jp-Notebook .jp-OutputArea-child { break-inside: auto; }
.jp-RenderedHTMLCommon table { table-layout: auto; max-width: 100%; font-size: 10px; }
.jp-RenderedHTMLCommon :is(td, th) { padding: 2px 5px; white-space: normal; overflow-wrap: break-word; max-width: none; }
.jp-RenderedImage img, .jp-RenderedHTMLCommon img { max-width: 100%; max-height: 235mm; height: auto; }
img, tr, math[display=block] { break-inside: avoid; }
thead { display: table-header-group; }
h1, h2, h3, h4, h5 { break-after: avoid; }
p { orphans: 3; widows: 3; }
"""

# Text of slides stands on the left, and a slide that is higher than the screen scrolls.
SLIDE = """
:root { --jp-code-font-size: 15px; }
.reveal .slides { text-align: left; }
.reveal .slides section section { max-height: 100%; overflow-y: auto; }
.reveal .slides :is(pre, code) { box-shadow: none; width: auto; margin: 0; font-size: 15px; line-height: 1.35; max-height: none; }
.reveal .jp-RenderedHTMLCommon { font-size: 20px; }
.reveal .jp-RenderedHTMLCommon :is(h1, h2, h3, h4) { text-transform: none; margin: 0.3em 0; }
.reveal .jp-RenderedHTMLCommon table { font-size: 15px; margin: 0; }
.reveal .jp-RenderedImage img { margin: 0; max-height: 560px; max-width: 100%; }
"""


def formula(tex, display):
    """Returns TeX as MathML, which browsers draw themselves. TeX that isn't understood stays as it is."""
    try:
        mathml = convert(tex.strip(), display=display)
        # A command that isn't known comes back as a name.
        if "\\" not in mathml:
            return mathml
        problem = "a command isn't known"
    except Exception as error:
        problem = type(error).__name__
    print(f"! a formula stays as TeX ({problem}): {' '.join(tex.split())}", flush=True)
    return f"<code>{html.escape(tex)}</code>"


class Renderer(IPythonRenderer):
    """Typesets formulas, which nbconvert leaves to MathJax."""

    def block_math(self, body):
        return formula(body, "block")

    def inline_math(self, body):
        return formula(body, "inline")

    def latex_environment(self, name, body):
        return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def _html_embed_images(self, html):
        # nbconvert parses each piece of HTML alone and closes its elements: the text of a folded answer would stand outside.
        return super()._html_embed_images(html) if "<img" in html else html


def markdown(source, attachments=None, folder=""):
    renderer = Renderer(escape=False, attachments=attachments, embed_images=True, path=folder)
    return MarkdownWithMath(renderer=renderer).render(source)


@pass_context
def markdown2html(context, source):
    folder = context["resources"]["metadata"]["path"]
    return markdown(source, context.get("cell", {}).get("attachments"), folder)


def described(picture, output, kind):
    """Adds the output's description to its picture, which nbconvert leaves out."""
    alt = output.metadata.get(kind, {}).get("alt") or output.metadata.get("alt") or ""
    return picture.replace("<img ", f'<img alt="{html.escape(alt)}" ', 1) if alt else picture


def author_line(notebook):
    """Returns the title and the text of the line that names the author, both without Markdown."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.search(r"^ {0,3}#\s+(.+?)\s*#*$", text, re.M)
    author = re.search(r"^\W*(Author:.*?)\W*$", text, re.M)
    return [re.sub(r"[*_`]", "", found[1]) if found else "" for found in (title, author)]


def css_string(text):
    return text.replace("\\", "\\\\").replace('"', '\\"')


def template(text, style):
    return text.replace("STYLE", style).replace("FIGURES", FIGURES)


def page(notebook, folder, name, kind, reveal):
    title, author = author_line(notebook)
    notebook.metadata.title, notebook.metadata.author = title or name, author
    resources = {"metadata": {"name": name, "path": folder}}
    style = STYLE
    if kind == "print":
        use_figures(notebook)
        style += PRINT.replace("TITLE", css_string(title or name)).replace("AUTHOR", css_string(author))
    if kind == "slides":
        split(notebook)
        resources["reveal_script"] = reveal["reveal.js"]
        exporter = SlidesExporter(raw_template=template(SLIDES, style + SLIDE), reveal_theme="white")
    else:
        exporter = HTMLExporter(raw_template=template(PAGE, style))
    for filter in (markdown2html, described):
        exporter.register_filter(filter.__name__, filter)
    exporter.register_filter("typeset", markdown)
    text, _ = exporter.from_notebook_node(notebook, resources)
    text = linked(text, kind)
    if kind == "print":
        # Nobody can unfold an answer on paper.
        text = text.replace("<details>", "<details open>")
    return re.sub(r"<link\b[^>]*\brel=.?stylesheet[^>]*>", lambda link: sheet(link[0], reveal), text)


def linked(text, kind):
    """Lets links to other notebooks lead to their pages of the same kind, which stand beside this one. A PDF has none of them:
    there they would lead into a temporary folder."""
    ending = {"html": ".html", "slides": ".slides.html"}.get(kind)
    target = lambda link: f'<a href="{link[1]}{ending}{link[2] or ""}"' if ending else "<a"
    return re.sub(r'<a href="(?!\w+:|/)([^"#]*)\.ipynb(#[^"]*)?"', target, text)


def sheet(link, reveal):
    """Returns the style sheet of reveal.js that a link names. The browser's own fonts take the place of the theme's, which are
    files beside it."""
    name = Path(re.search(r'href="([^"]*)"', link)[1]).name
    return "<style>" + re.sub(r"@import[^;]*;", "", reveal[name]) + "</style>"


def use_figures(notebook):
    """Removes the HTML of outputs that live by a script and have a figure, too: on paper the figure says more."""
    for output in [output for cell in notebook.cells for output in cell.get("outputs", [])]:
        data = output.get("data", {})
        if "<script" in data.get("text/html", "") and any(kind.startswith("image/") for kind in data):
            del data["text/html"]


def split(notebook):
    """Begins a slide at each title, and one below it at each smaller heading and each cell with an output, unless the author
    has set the types of slides."""
    if any(cell.metadata.get("slideshow", {}).get("slide_type") for cell in notebook.cells):
        return
    for cell in notebook.cells:
        heading = re.match(r"\s*(#+)\s", cell.source) if cell.cell_type == "markdown" else None
        if heading and len(heading[1]) <= 2:
            kind = "slide"
        else:
            kind = "subslide" if heading or cell.get("outputs") else "-"
        cell.metadata.slideshow = {"slide_type": kind}


def reveal_files(wheel):
    """Returns the files of reveal.js by name."""
    with zipfile.ZipFile(wheel) as archive:
        found = [name for name in archive.namelist() if re.search(r"/dist/(reveal\.js|reveal\.css|theme/white\.css)$", name)]
        return {Path(name).name: archive.read(name).decode() for name in found}


def write(path, text):
    """Replaces a file atomically."""
    path = Path(path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=path.suffix, delete=False, encoding="utf-8") as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main():
    job = json.loads(sys.argv[1])
    path = Path(job["notebook"])
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        sys.exit(f"{path} can't be read as a notebook ({str(error).splitlines()[0]})")
    reveal = reveal_files(job["reveal"]) if job["reveal"] else {}
    for kind, written in job["pages"]:
        write(written, page(nbformat.from_dict(notebook), job["folder"], path.stem, kind, reveal))


if __name__ == "__main__":
    main()
