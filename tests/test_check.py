"""Tests `cargo lab check`: each of many faults is found at its cell, and nothing else; outputs are compared with a new run's."""

import base64
import copy
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

ROOT = Path(__file__).parent.parent
LAB = Path(sys.prefix) / "bin" / "lab"
COMMITTED = sorted((ROOT / "notebooks").glob("*.ipynb"))
AUTHOR = "*Author: your name · Course: your course · Date: fill in*"


def check(*arguments):
    """Returns the findings, and asserts that the exit status fits them."""
    done = subprocess.run([LAB, "check", *arguments, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == (1 if findings else 0)
    return findings


def places(findings):
    return [(finding["rule"], finding["cell"]) for finding in findings]


def cell_with(notebook, text, kind="markdown"):
    """Returns the number and the cell whose source holds the text."""
    return next(
        (number, cell)
        for number, cell in enumerate(notebook.cells, 1)
        if cell.cell_type == kind and text in cell.source
    )


def executed(notebook):
    return [(number, cell) for number, cell in enumerate(notebook.cells, 1) if cell.get("execution_count")]


def with_output(notebook, kind):
    """Returns the number of the first cell with an output of this media type, and the output."""
    return next(
        (number, output)
        for number, cell in executed(notebook)
        for output in cell.outputs
        if kind in output.get("data", {}) or output.output_type == kind
    )


def keep_checksums(notebook):
    """Adds what `cargo lab run` keeps of each source."""
    for _, cell in executed(notebook):
        cell.metadata.vitlab = {"source": hashlib.sha256(cell.source.encode()).hexdigest()}


# Each of these functions makes one fault in notebook 2, which is without one, and returns the rule and the cell's number.


def other_order(notebook):
    (first, one), (_, two) = executed(notebook)[4:6]
    one.execution_count, two.execution_count = two.execution_count, one.execution_count
    return "order", first


def executed_twice(notebook):
    later = executed(notebook)[7:]
    for _, cell in later:
        cell.execution_count += 1
    return "order", later[0][0]


def not_from_one(notebook):
    cells = executed(notebook)
    for _, cell in cells:
        cell.execution_count += 3
    return "order", cells[0][0]


def not_executed(notebook):
    number, cell = executed(notebook)[5]
    cell.execution_count, cell.outputs = None, []
    return "unexecuted", number


def cell_added(notebook):
    notebook.cells.insert(20, new_code_cell("1 + 1"))
    return "unexecuted", 21


def failed(notebook):
    number, cell = executed(notebook)[-1]
    cell.outputs = [new_output("error", ename="Error", evalue="index out of bounds", traceback=["panicked"])]
    return "failed", number


def standard_error(notebook):
    number, cell = executed(notebook)[3]
    cell.outputs.append(new_output("stream", name="stderr", text="something odd\n"))
    return "warning", number


def compiler_warning(notebook):
    number, cell = executed(notebook)[3]
    cell.outputs.insert(0, new_output("stream", name="stdout", text="fine\nwarning: unused variable: `x`\n"))
    return "warning", number


def edited(notebook):
    keep_checksums(notebook)
    number, cell = executed(notebook)[6]
    cell.source += "\n"
    return "edited", number


def edited_since_the_kernel_ran_it(notebook):
    keep_checksums(notebook)
    number, output = with_output(notebook, "image/png")
    # Newer than what the cell holds.
    output.metadata["vitlab"] = {"source": "0" * 64}
    return "edited", number


def quick(notebook):
    notebook.metadata.vitlab = {"quick": True, "data": "FashionMNIST"}
    return "quick-run", None


def synthetic(notebook):
    notebook.metadata.vitlab = {"quick": False, "data": "synthetic"}
    return "quick-run", None


def date_left_out(notebook):
    number, cell = cell_with(notebook, "Date: 2026-11-29")
    cell.source = cell.source.replace("Date: 2026-11-29", "Date: fill in")
    return "placeholder", number


def no_author(notebook):
    _, cell = cell_with(notebook, "*Author:")
    cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("*Author:"))
    return "placeholder", None


def blank_answer(notebook):
    number, cell = cell_with(notebook, "#### Which fusion, how much discarding")
    cell.source += "\n\nYOUR ANSWER HERE"
    return "placeholder", number


def blank_code(notebook):
    number, cell = executed(notebook)[8]
    cell.source += "\nfn later() { todo!() }"
    cell.metadata.pop("vitlab", None)  # the checksum of the source that ran
    return "placeholder", number


def no_heading(notebook):
    _, cell = cell_with(notebook, "### Task 2.2")
    cell.source = cell.source.replace("### Task 2.2: Write a function", "### Write a function", 1)
    return "heading", None


def heading_in_code(notebook):
    _, cell = cell_with(notebook, "## Imports")
    cell.source = cell.source.replace("## Imports", "```\n## Imports\n```", 1)
    return "heading", None


def headings_swapped(notebook):
    one, cell = cell_with(notebook, "### Task 2.2")
    two, other = cell_with(notebook, "### Task 2.3")
    first, second = (next(line for line in c.source.splitlines() if line.startswith("### Task")) for c in (cell, other))
    cell.source, other.source = cell.source.replace(first, second), other.source.replace(second, first)
    return "heading", one


def bare_arxiv(notebook):
    number, cell = cell_with(notebook, "[arXiv 1806.07421](https://arxiv.org/abs/1806.07421)). The score")
    cell.source = cell.source.replace("[arXiv 1806.07421](https://arxiv.org/abs/1806.07421)", "arXiv 1806.07421")
    return "source", number


def unknown_authors(notebook):
    number, cell = cell_with(notebook, "#### Which fusion, how much discarding")
    cell.source += "\n\nKovaleva et al. saw the same in 2019."
    return "source", number


def number_changed(notebook):
    number, cell = cell_with(notebook, "0.611 in the worst image")
    cell.source = cell.source.replace("0.611 in the worst image", "0.619 in the worst image")
    return "number", number


def number_with_another_sign(notebook):
    number, cell = cell_with(notebook, "is no better than random (−0.002 ± 0.014)")
    cell.source = cell.source.replace("is no better than random (−0.002 ± 0.014)", "is no better than random (+0.002 ± 0.014)")
    return "number", number


def number_with_more_digits(notebook):
    number, cell = cell_with(notebook, "71.8 ± 11.2 % in layer 0, 47.7")
    cell.source = cell.source.replace("71.8 ± 11.2 % in layer 0, 47.7", "71.83 ± 11.2 % in layer 0, 47.7")
    return "number", number


def add_computed_number(notebook, numbers):
    """Adds a number that no output shows, with these reasons. Returns the number of the cell."""
    number, cell = cell_with(notebook, "#### Does it agree with the crate?")
    cell.source += "\n\nThat is 5.27 times as much."
    cell.metadata["vitlab"] = {"numbers": numbers}
    return number


def number_that_was_computed(notebook):
    return "number", add_computed_number(notebook, {})


def number_without_a_reason(notebook):
    return "number", add_computed_number(notebook, {"5.27": " "})


def number_excused_in_vain(notebook):
    return "number", add_computed_number(notebook, {"5.27": "58 / 11", "7.25": "29 / 4"})


def no_references(notebook):
    _, cell = cell_with(notebook, "## References")
    cell.source = cell.source.replace("## References", "## Literature")
    return "source", None


def no_alt_text(notebook):
    number, output = with_output(notebook, "image/png")
    output.metadata.clear()
    return "alt-text", number


def bare_picture(notebook):
    number, cell = cell_with(notebook, "#### Which fusion, how much discarding")
    cell.source += "\n\n![](img/attention_example.png)"
    return "alt-text", number


def bare_picture_in_html(notebook):
    number, output = with_output(notebook, "text/html")
    output.data["text/html"] += '<img src="data:image/png;base64,AAAA" width=10>'
    return "alt-text", number


def path_in_output(notebook):
    number, output = with_output(notebook, "stream")
    output.text += "saved to /home/mara/vitlab/outputs/map.png\n"
    return "local-path", number


def path_in_source(notebook):
    number, cell = cell_with(notebook, "#### Which fusion, how much discarding")
    cell.source += '\n\nThe weights are in "/tmp/weights/ViT_model.pt".'
    return "local-path", number


def path_of_windows(notebook):
    number, output = with_output(notebook, "text/html")
    output.data["text/html"] += "<p>C:\\Users\\mara\\map.png</p>"
    return "local-path", number


def too_large(notebook):
    executed(notebook)[0][1].outputs.append(new_output("stream", text="a line of output\n" * 90_000))
    return "size", None


FAULTS = [
    *(other_order, executed_twice, not_from_one, not_executed, cell_added, failed, standard_error, compiler_warning),
    *(edited, edited_since_the_kernel_ran_it, quick, synthetic, date_left_out, no_author, blank_answer, blank_code),
    *(number_changed, number_with_another_sign, number_with_more_digits, number_that_was_computed),
    *(number_without_a_reason, number_excused_in_vain),
    *(no_heading, heading_in_code, headings_swapped, bare_arxiv, unknown_authors, no_references, no_alt_text),
    *(bare_picture, bare_picture_in_html, path_in_output, path_in_source, path_of_windows, too_large),
]


def good_notebook():
    """Notebook 2 with its author line filled in, and with small pictures, because it is copied many times."""
    notebook = nbformat.read(next(path for path in COMMITTED if path.name.startswith("2_")), as_version=4)
    _, cell = cell_with(notebook, AUTHOR)
    cell.source = cell.source.replace(AUTHOR, "*Author: Mara Muster · Course: Deep Vision · Date: 2026-11-29*")
    for output in [output for _, cell in executed(notebook) for output in cell.outputs]:
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = NEW_PICTURE
    return notebook


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The findings in the good notebook (under "good") and in one for each fault, in one run, and the expected places."""
    folder, good = tmp_path_factory.mktemp("check"), good_notebook()
    expected, paths = {"good": []}, {}
    for fault in [None, *FAULTS]:
        notebook = copy.deepcopy(good)
        name = fault.__name__ if fault else "good"
        if fault:
            expected[name] = [fault(notebook)]
        paths[name] = folder / name / "2_attention.ipynb"
        paths[name].parent.mkdir()
        nbformat.write(notebook, paths[name])
    findings = {name: [] for name in paths}
    for finding in check(*paths.values()):
        findings[Path(finding["notebook"]).parent.name].append(finding)
    return findings, expected


@pytest.mark.parametrize("name", ["good"] + [fault.__name__ for fault in FAULTS])
def test_a_fault_is_found_at_its_cell_and_nothing_else(found, name):
    findings, expected = found
    assert places(findings[name]) == expected[name], findings[name]


def test_the_committed_notebooks_lack_their_authors_only():
    findings = check(*COMMITTED)
    assert places(findings) == [("placeholder", 1)] * len(COMMITTED), findings
    assert '"your name", "your course", "fill in"' in findings[0]["message"]


def test_a_finding_is_a_sentence_with_its_cell_and_a_remedy():
    done = subprocess.run([LAB, "check", "0"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("notebooks/0_vision_transformer.ipynb, cell 1: the author line still has")
    assert "fill in author" in done.stdout
    assert "one finding" in done.stderr


def test_a_papers_number_needs_a_link(tmp_path):
    cells = [new_markdown_cell("# T\n\n*Author: M · Course: C · Date: D*"), new_markdown_cell("The paper reports 73.9 %.")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "own.ipynb")
    assert places(check(tmp_path / "own.ipynb")) == [("source", 2)]
    cells[1].source += " It is [here](https://arxiv.org/abs/2012.12877)."
    nbformat.write(new_notebook(cells=cells), tmp_path / "own.ipynb")
    assert check(tmp_path / "own.ipynb") == []


def test_a_number_in_the_text_is_one_of_an_output(tmp_path):
    html = "<table><tr><td>0.9327</td></tr></table><script>let page = 0.1234;</script>"
    alt = {"image/png": {"alt": "test accuracy from 27.4 % to 79.5 %"}}
    cells = [
        new_markdown_cell("# T\n\n*Author: M · Course: C · Date: D*"),
        new_code_cell(
            "let ratio = 0.9;",
            execution_count=1,
            outputs=[
                new_output("stream", text="loss 0.5618\n"),
                new_output("display_data", {"text/html": html}),
                new_output("display_data", {"image/png": NEW_PICTURE}, metadata=alt),
            ],
        ),
        new_markdown_cell("With 0.9 it rises from 27.4 to 79.5 %, or 93.3 %; the loss is 0.562, in $x^{0.1}$ and `0.2` since 2017."),
        new_markdown_cell("It is 0.563 or 12.34 %, and 0.563 again."),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "own.ipynb")
    (finding,) = check(tmp_path / "own.ipynb")
    assert (finding["rule"], finding["cell"]) == ("number", 4)
    assert finding["message"].startswith("states 0.563, 12.34 %, which no output shows;")
    assert '"vitlab": {"numbers": {"0.563": "…"}}' in finding["message"]
    cells[3].metadata.vitlab = {"numbers": {"0.563": "0.282 + 0.281", "12.34": "Table 4 of arXiv 2010.11929"}}
    nbformat.write(new_notebook(cells=cells), tmp_path / "own.ipynb")
    assert check(tmp_path / "own.ipynb") == []


def test_wrong_arguments_are_one_sentence(tmp_path):
    (tmp_path / "no.ipynb").write_text("{}")
    for arguments, message in [
        (["--quick"], "need --run"),
        (["--against", "x.ipynb"], "name it"),
        ([tmp_path / "no.ipynb"], "can't be read as a notebook of nbformat 4"),
        (["9"], "there is no notebook 9"),
    ]:
        done = subprocess.run([LAB, "check", *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def picture(level):
    """Returns a picture of one brightness, with a pixel of another, as base64."""
    image = Image.new("RGB", (8, 8), (100, 100, 100))
    image.putpixel((3, 3), (100, level, 100))
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


# A cell, the output in the notebook and whether a new run gives the same.
NEW_PICTURE = picture(100)
SHOW = f'println!("EVCXR_BEGIN_CONTENT image/png\\n{NEW_PICTURE}\\nEVCXR_END_CONTENT");'
RERUN = {
    "duration": ('println!("trained in 3 min 4 s, 17.5 images/s");', "trained in 58 s, 12 images/s\n", True),
    "last digit": ('println!("accuracy 79.52 %");', "accuracy 79.53 %\n", True),
    "number": ('println!("accuracy 79.52 %");', "accuracy 80.40 %\n", False),
    "whole number": ('println!("245 of 1000");', "246 of 1000\n", False),
    "text": ('println!("a sandal\\nand a boot");', "a sneaker\nand a boot\n", False),
    "picture": (SHOW, picture(180), False),
    "rounded picture": (SHOW, picture(101), True),
    "silent": ("let silent = 1;", "", True),
}


def picture_output(content):
    return new_output("display_data", {"image/png": content}, metadata={"image/png": {"alt": "a grey square"}})


def shown(content):
    if not content:
        return []
    return [new_output("stream", text=content)] if content.endswith("\n") else [picture_output(content)]


def tiny(folder):
    """Writes a notebook whose outputs differ from a new run's, and returns its path and the numbers of the cells that do."""
    cells = [new_markdown_cell("# Tiny\n\n*Author: M · Course: C · Date: D*")]
    for count, (source, old, _) in enumerate(RERUN.values(), 1):
        cells.append(new_code_cell(source, execution_count=count, outputs=shown(old)))
    nbformat.write(new_notebook(cells=cells), folder / "tiny.ipynb")
    return folder / "tiny.ipynb", [number for number, (_, _, same) in enumerate(RERUN.values(), 2) if not same]


def check_differences(findings, expected):
    assert places(findings) == [("rerun", number) for number in expected]
    number, whole, text, image = findings
    assert "-accuracy 80.40 %\n+accuracy 79.52 %\n" in number["difference"]
    assert "-246 of 1000\n+245 of 1000\n" in whole["difference"]
    assert "-a sneaker\n+a sandal\n and a boot\n" in text["difference"]
    assert "1 of 64 pixels differ, by up to 80 of 255" in image["message"]


def test_outputs_are_compared_with_those_of_another_file(tmp_path):
    path, expected = tiny(tmp_path)
    again = nbformat.read(path, as_version=4)
    texts = [
        *("trained in 3 min 4 s, 17.5 images/s\n", "accuracy 79.52 %\n", "accuracy 79.52 %\n", "245 of 1000\n"),
        *("a sandal\nand a boot\n", NEW_PICTURE, NEW_PICTURE, ""),
    ]
    for cell, text in zip(again.cells[1:], texts, strict=True):
        cell.outputs = shown(text)
    nbformat.write(again, tmp_path / "again.ipynb")
    check_differences(check(path, "--against", tmp_path / "again.ipynb"), expected)
    assert check(path, "--against", path) == []


@pytest.mark.long
def test_outputs_are_compared_with_those_of_a_new_run(tmp_path):
    path, expected = tiny(tmp_path)
    before = path.read_bytes()
    check_differences(check(path, "--run", "--data", "synthetic"), expected)
    assert path.read_bytes() == before


@pytest.mark.long
def test_a_cell_that_fails_in_a_new_run_is_a_finding(tmp_path):
    path, _ = tiny(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = 'panic!("at once");'
    nbformat.write(notebook, path)
    (finding,) = check(path, "--run", "--data", "synthetic")
    assert finding["rule"] == "rerun" and "a new run fails: cell 2" in finding["message"]
