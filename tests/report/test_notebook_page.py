"""Executed notebooks as pages that a code host renders."""

import base64
import html
import re
from io import BytesIO

import nbformat
import pandas as pd
import pytest
from PIL import Image

from deimos.execution import notebooks
from deimos.report import paper, side_by_side
from deimos.report.notebook_page import LEFT_OUT, PAGES, write_notebook_page


@pytest.fixture
def executed(tmp_path):
    """A notebook with a picture, a table, a line of text and a warning as outputs."""
    content = BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "PNG")
    picture = {"image/png": base64.b64encode(content.getvalue()).decode(), "text/plain": "<Figure>"}
    table = '<style type="text/css">td {}</style>\n<table id="T">\n\n<td class="a">7</td>\n</table>'
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="one line\n"),
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("display_data", data=picture),
        nbformat.v4.new_output("display_data", data={"text/html": table, "text/plain": "7"}),
    ]
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("print()", execution_count=1, outputs=outputs),
        nbformat.v4.new_code_cell("fit()"),
    ]
    file = tmp_path / "98-small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    return file


def test_a_page_has_code_text_pictures_and_bare_tables(executed, tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "98-small-7.png").touch()  # of an older page
    page = write_notebook_page(executed, folder).read_text()
    assert page == (
        "# Title\n\n```python\nprint()\n```\n\n```text\none line\n```\n\n"
        "![98-small, picture 1](98-small-1.png)\n\n<table>\n<td>7</td>\n</table>\n\n"
        f"```python\nfit()\n```\n\n{LEFT_OUT}\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["98-small-1.png", "98-small.md"]
    assert Image.open(folder / "98-small-1.png").convert("RGB").getpixel((3, 3)) == (255, 0, 0)


def test_the_kept_page_of_99_shows_before_it_tells():
    page = (PAGES / "99-figures-and-tables.md").read_text(encoding="utf-8")
    pictures = pictures_of(page)
    assert len(pictures) == 14  # the overview and thirteen figures
    tables = [at.start() for at in re.finditer("<table", page)]
    assert page.index(pictures[0]) < tables[0] < page.index(pictures[1])
    assert max(page.index(name) for name in pictures) < tables[1]
    assert all(claim.says.replace(">", "&gt;") in page for claim in paper.CLAIMS)


def test_every_notebook_of_which_runs_are_kept_has_its_page_and_tells_the_kept_verdicts():
    """Their code is the notebooks' own, so that a page is never of an older one."""
    pages = {file.stem: file.read_text(encoding="utf-8") for file in PAGES.glob("*.md")}
    sources = {file.stem: file for file in notebooks.NOTEBOOKS.glob("*.ipynb")}
    assert {name for name in sources if notebooks.shows_kept_runs(sources[name])} == set(pages)
    shown = [name for page in pages.values() for name in pictures_of(page)]
    assert sorted(shown) == sorted(path.name for path in PAGES.glob("*.png"))
    kept = pd.read_csv(side_by_side.KEPT_VERDICTS, keep_default_na=False)
    for name, page in pages.items():
        for cell in nbformat.read(sources[name], as_version=4).cells:
            assert cell.source in page, name
        own = kept if name.startswith("99") else kept[[name.endswith(e) for e in kept.experiment]]
        *_, table = page.split("<table>")
        assert table.count("<tr>") == 1 + len(own) > 1
        for row in own.itertuples():
            assert f"<td>{row.outcome}</td>" in table and html.escape(row.ours, False) in table
    assert sum(path.stat().st_size for path in PAGES.iterdir()) < 1_500_000


def pictures_of(page: str) -> list[str]:
    return re.findall(r"\]\((.*?\.png)\)", page)
