"""README and docs: links resolve, paths exist, commands are run by a test or named as not run."""

import re
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml
from torch import nn

import deimos

ROOT = Path(deimos.__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TOPICS = {
    "what-we-learned", "results", "running", "performance", "own-data", "differences", "design",
    "faults",
}  # fmt: skip
MADE_HERE = (".venv", "data", "mlruns/mlflow", "notebooks/executed")  # what a clone has not yet
EXAMPLE = "test_an_example_is_written_and_can_be_picked_from"
TESTED = {  # the test that runs a command, or the same with other files
    "make reproduce": (
        "test_make_reproduce_goes_on_when_a_notebook_fails_and_ends_with_99_and_an_error"
    ),
    "make notebooks/executed/04-mnist-7-vs-9.ipynb SCALE=paper N=10": (
        "test_make_runs_one_notebook_alone_at_the_scale_asked_for"
    ),
    "make notebooks/executed/B2-what-matters.ipynb SCALE=paper": (
        "test_make_runs_one_notebook_alone_at_the_scale_asked_for"
    ),
    "make notebooks/executed/B3-rivals.ipynb SCALE=paper": (
        "test_make_runs_one_notebook_alone_at_the_scale_asked_for"
    ),
    "make reproduce ENGINE=ray SCALE=paper GPUS_PER_TASK=0.5": (
        "test_make_gives_ray_the_experiments_that_are_due_together_and_draws_here"
    ),
    "make ui": "test_the_ui_serves_this_machine_alone_and_when_it_dies_nothing_recorded_is_lost",
    "make lab": "test_jupyter_is_on_this_machine_alone_and_keeps_its_token",
    ".venv/bin/python -m deimos example data/mine": EXAMPLE,
    ".venv/bin/python -m deimos select --pool data/mine/pool.csv --labelled"
    " data/mine/labelled.csv --batch 96 --out data/mine/picks.csv": EXAMPLE,
    ".venv/bin/python -m deimos select --pool data/mine/pool.csv --labelled"
    " data/mine/labelled.csv --dry-run": "test_the_commands_of_the_documentation_run",
    ".venv/bin/python -m deimos select --pool data/mine/pool.csv --labelled data/mine/labelled.csv"
    " data/mine/picks.csv --batch 96 --out data/mine/second.csv": (
        "test_the_commands_of_the_documentation_run"
    ),
}
NOT_RUN = {  # and why
    "make test": "it is what runs this",
    "make soak": "the same, for what takes long",
    "make env": "it builds the environment that runs this",
    "make -j3 reproduce": "make's own way to do several at once",
    ".venv/bin/python -m deimos.execution.notebooks notebooks/02-splicing.ipynb --scale quick"
    " -p table_file my.tsv.gz": "it takes a table of the reader's own",
    "mlflow server --backend-store-uri postgresql://me@db/deimos --artifacts-destination artifacts"
    " --host 10.0.0.1": "it needs a PostgreSQL server at that address",
    "export MLFLOW_TRACKING_URI=http://10.0.0.1:5000": "the same",
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def blocks(page, language):
    """The code blocks of a page in one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands():
    """Every command in a block of shell code, on one line each."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                yield re.sub(r"\s+", " ", line.partition("#")[0]).strip()


def code_of(page):
    """Everything between backticks."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"```.*?```|`[^`]+`", text, flags=re.DOTALL)


def anchors(page):
    """The names of a page's headings, as a code host makes them."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_at_most_150_lines_and_links_every_page():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert {path.stem for path in PAGES[1:]} == TOPICS
    assert [topic for topic in TOPICS if f"](docs/{topic}.md)" not in text] == []


@each_page
def test_every_link_resolves(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text)
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links {link}"


@each_page
def test_a_page_names_only_paths_that_exist(page):
    words = [word for span in code_of(page) for word in span.strip("`").split()]
    paths = [w for w in words if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?|[\w-]+\.(py|md|yml|toml)", w)]
    known = {path.name for path in (*ROOT.rglob("tests/**/*.py"), *ROOT.rglob("deimos/**/*.py"))}
    missing = [p for p in paths if not (ROOT / p).exists() and p not in known]
    assert [p for p in missing if not p.startswith(MADE_HERE)] == []


@each_page
def test_a_page_names_only_make_targets_that_exist(page):
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^  make (\S+)", said.stdout, flags=re.MULTILINE))
    targets |= {f"notebooks/executed/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    named = re.findall(r"\bmake (?:-j\d )?([a-z]\S*?)(?=[\s`]|$)", "\n".join(code_of(page)))
    assert [name for name in named if name not in targets] == []


@each_page
def test_a_page_names_only_parameters_that_a_notebook_has(page):
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            for name, _ in re.findall(r"-p (\w+) (\S+)", line):
                (file,) = re.findall(r"notebooks/\S+\.ipynb", line)
                assert f"{name}: " in nbformat.read(ROOT / file, as_version=4).cells[2].source


def test_the_readme_names_every_notebook():
    text = README.read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_design_page_names_every_folder_and_every_file_on_top():
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    parts = [
        p for p in (ROOT / "deimos").iterdir() if p.name[0] not in "_." and p.suffix != ".json"
    ]
    names = [f"deimos/{path.name}" for path in parts]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_what_the_design_page_says_stands_in_the_files_that_it_names():
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    rows = re.findall(r"`(\w+)(?:\([^`]*)?` in `(deimos/\S+\.py)`", text)
    assert len(rows) > 5
    for name, file in rows:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), flags=re.MULTILINE), name


def test_every_command_is_run_by_a_test_or_named_as_not_run():
    assert {*commands()} == TESTED.keys() | NOT_RUN.keys()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in TESTED.values() if f"def {name}(" not in tests] == []


def test_what_a_smaller_scale_changes_is_where_the_page_says():
    for scale in ("quick", "smoke"):
        assert yaml.safe_load((ROOT / f"notebooks/scales/{scale}.yaml").read_text())


@pytest.mark.parametrize(
    "page, code",
    [  # those of the page on own data belong together: test_own_data_page runs them
        (page, code) for page in PAGES if page.stem != "own-data" for code in blocks(page, "python")
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_the_python_of_a_page_runs(page, code):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    names = {
        "model": nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2)),
        "pool": torch.from_numpy(rng.standard_normal((200, 3))).float(),
        "predictions": torch.from_numpy(rng.standard_normal((20, 60, 1))),
        "candidates": torch.arange(60),
    }
    exec(code, names)
    if "picked" in names:
        assert len(names["picked"].positions) == 96
    if "batch" in names:
        assert len(names["batch"]) == 25
