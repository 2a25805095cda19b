"""Notebooks of one or two cells, run in a folder and a store that are thrown away."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

import deimos
from deimos.execution import notebooks, parameters
from deimos.report import side_by_side

ROOT = Path(deimos.__file__).parents[1]
PARAMETERS = """\
n_acquired: int = 500  # labels
decay: float = 1e-4
methods: list[str] = ["deimos"]
n_candidates: int | None = None
"""


@pytest.fixture(autouse=True)
def store(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")


@pytest.fixture
def notebook(tmp_path, write_notebook):
    return write_notebook(tmp_path / "notebooks/tiny.ipynb", PARAMETERS, "2 * n_acquired")


def status(notebook):
    return json.loads((notebook.parent / "executed" / f"{notebook.stem}.json").read_text())


def test_a_notebook_that_finished_stands_under_its_own_name_with_its_page(notebook):
    assert notebooks.notebook_program([str(notebook), "-p", "n_acquired", "21"]) == 0
    executed = notebook.parent / "executed/tiny.ipynb"
    assert nbformat.read(executed, as_version=4).cells[-1].outputs[0].data["text/plain"] == "42"
    assert ">42<" in executed.with_suffix(".html").read_text().replace("\n", "")
    assert status(notebook)["status"] == "finished"
    assert sorted(p.suffix for p in executed.parent.iterdir()) == [".html", ".ipynb", ".json"]


def test_a_cell_that_raises_leaves_only_a_failed_notebook_and_the_reason(notebook, write_notebook):
    write_notebook(notebook, "n: int = 0", "1 / n")
    assert notebooks.notebook_program([str(notebook)]) != 0
    assert not (notebook.parent / "executed/tiny.ipynb").exists()
    assert (notebook.parent / "executed/tiny.failed.ipynb").exists()
    assert status(notebook)["status"] == "failed"
    assert "ZeroDivisionError: division by zero" in status(notebook)["error"]


def test_a_kernel_that_dies_is_a_failure(notebook, write_notebook):
    write_notebook(
        notebook, "n: int = 0", "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert notebooks.notebook_program([str(notebook)]) != 0
    assert not (notebook.parent / "executed/tiny.ipynb").exists()
    assert status(notebook)["status"] == "failed"


def test_all_wrong_parameters_are_told_at_once_and_nothing_is_run(notebook, capsys):
    wrong = ["-p", "n_aquired", "21", "-p", "decay", "small", "-p", "methods", "[1]"]
    assert notebooks.notebook_program([str(notebook), *wrong]) != 0
    told = capsys.readouterr().err
    assert "no parameter 'n_aquired'; the nearest is 'n_acquired'" in told
    assert "decay = 'small' is str, not float" in told and "methods = [1]" in told
    assert [path.name for path in (notebook.parent / "executed").iterdir()] == ["tiny.json"]


def test_a_value_that_cannot_be_read_is_refused_in_a_sentence(notebook, capsys):
    assert notebooks.notebook_program([str(notebook), "-p", "methods", "[a"]) == 1
    assert "-p methods [a: write a value as YAML" in capsys.readouterr().err
    assert status(notebook)["status"] == "refused"


def test_a_notebook_of_which_no_runs_are_kept_cannot_show_them(notebook, capsys):
    assert notebooks.notebook_program([str(notebook), "--scale", "reference"]) == 1
    assert "the repository keeps, and it keeps none of tiny" in capsys.readouterr().err
    (refused,) = notebook.parent.glob("executed/**/*.json")
    assert refused.parent.name == "reference"
    assert json.loads(refused.read_text())["status"] == "refused"


def test_what_shows_the_kept_runs_leaves_out_its_marked_cells_and_replaces_nothing(
    notebook, monkeypatch
):
    monkeypatch.setattr(notebooks.tracking, "read_references", lambda: 0)
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].source = 'scale: str = "paper"'
    marked = {"tags": [notebooks.NOT_AT_REFERENCE]}
    nb.cells[1:] = [nbformat.v4.new_code_cell("1 / 0", metadata=marked)]
    nb.cells.append(nbformat.v4.new_code_cell("scale"))
    nbformat.write(nb, notebook)
    assert notebooks.notebook_program([str(notebook), "--scale", "quick"]) == 1
    assert notebooks.notebook_program([str(notebook), "--scale", "reference"]) == 0
    assert status(notebook)["scale"] == "quick"
    shown = nbformat.read(notebook.parent / "executed/reference/tiny.ipynb", as_version=4).cells
    assert [cell.execution_count is None for cell in shown] == [False, False, True, False]
    assert shown[-1].outputs[0].data["text/plain"] == "'reference'"


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        (1, float, True),
        (1.0, int, False),
        (True, int, False),
        (True, bool, True),
        (None, int | None, True),
        ("1", int | None, False),
        ([1, 2], list, True),
        ([1, "2"], list[int], False),
    ],
)
def test_a_value_must_fit_its_annotation(value, kind, fits):
    assert parameters.is_a(value, kind) is fits


def test_types_are_read_from_the_annotation_or_else_from_the_default(tmp_path, write_notebook):
    path = write_notebook(tmp_path / "a.ipynb", "a: int | None = None\nb = 0.5\nc: list = [1]")
    assert parameters.declared(path) == {"a": int | None, "b": float, "c": list}


def test_a_scale_that_says_nothing_of_the_notebook_is_refused(notebook):
    scales = notebook.parent / "scales"
    scales.mkdir()
    (scales / "quick.yaml").write_text(yaml.safe_dump({"other": {}}))
    with pytest.raises(ValueError, match="quick.yaml says nothing about tiny"):
        parameters.scale_parameters(notebook, "quick")
    assert parameters.scale_parameters(notebook, "paper") == {}


def test_a_progress_bar_leaves_its_last_state_in_the_page(tmp_path):
    stream = nbformat.v4.new_output("stream", name="stderr", text="\r 0%\r50%")
    more = nbformat.v4.new_output("stream", name="stderr", text="\r100%\n")
    cell = nbformat.v4.new_code_cell("", outputs=[stream, more])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "bar.ipynb")
    notebooks.write_html(tmp_path / "bar.ipynb", tmp_path / "bar.html")
    page = (tmp_path / "bar.html").read_text()
    assert "<pre>100%\n</pre>" in page


def test_the_summary_lists_every_notebook_and_is_whole_only_if_all_finished(
    notebook, write_notebook
):
    assert notebooks.notebook_program([str(notebook)]) == 0
    text, whole = notebooks.closing_table(notebook.parent)
    assert whole and re.search(r"tiny +paper +finished +0\.\d +0 +0 +0", text)
    write_notebook(notebook.with_name("B1-beyond.ipynb"), "n: int = 0")
    assert notebooks.closing_table(notebook.parent) == (text, True)
    write_notebook(notebook.with_name("other.ipynb"), "n: int = 0")
    text, whole = notebooks.closing_table(notebook.parent)
    assert not whole and re.search(r"other +- +not run", text)


def test_the_last_screen_has_a_row_an_experiment_beside_the_kept_runs_and_one_link(
    tmp_path, write_notebook
):
    last = write_notebook(tmp_path / "notebooks/99-figures-and-tables.ipynb", "n: int = 0")
    text, _ = notebooks.closing_screen(last.parent)
    assert "kept runs" not in text and "file://" not in text
    assert notebooks.notebook_program([str(last)]) == 0
    text, _ = notebooks.closing_screen(last.parent)
    assert "your runs, paper scale" in text and len(re.findall("file://.*99.*html", text)) == 1
    for title in (side_by_side.EXPERIMENTS | side_by_side.SIMULATIONS).values():
        assert text.count(f"\n{title.partition(' (')[0]} ") == 1
    assert re.search(r"MNIST 7 vs 9.*no runs +\+0\.\d+ \[.*10 repeats: supported", text)
    lines = [
        line for line in text.splitlines() if "file://" not in line
    ]  # a link is as long as it is
    assert max(map(len, lines)) < 140 and len(lines) < 25


def test_an_execution_writes_a_line_and_no_bar_of_cells(notebook, capfd):
    assert notebooks.notebook_program([str(notebook)]) == 0
    said = capfd.readouterr()
    counts = "runs: 0 new, 0 resumed, 0 skipped"
    assert re.fullmatch(rf"tiny: \d\.\d minutes; {counts}\n", said.out)
    assert "cell/s" not in said.err and "Executing" not in said.err


# A Python that does what `make` asks of deimos in no time: 01 fails unless N is given, and Ray is
# not there where a GPU is to be shared by four.
FAKE_PYTHON = """\
#!/bin/sh
echo "$*" >> asked
case "$*" in
  *0.25) exit 2 ;;
  *deimos.execution.ray_engine*) for word in $*; do case $word in
    notebooks/*) name=$(basename $word .ipynb); touch notebooks/executed/$name.json
      touch notebooks/executed/$name.ipynb ;;
    esac; done; exit ;;
  *--summary*) test -e notebooks/executed/01-bad.ipynb; exit ;;
  *01-bad*smoke) exit 1 ;;
esac
name=$(basename "$3" .ipynb)
touch "notebooks/executed/$name.json" "notebooks/executed/$name.ipynb"
"""


@pytest.fixture
def make(tmp_path):
    """A function that calls make on three notebooks; returns its result and the notebooks run."""
    for place in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / place, tmp_path)
    code = ("deimos/experiment/loop.py", "deimos/report/figures.py", "deimos/record/results.py")
    for name in (*code, "fake", ".installed"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("01-bad", "02-good", "99-figures-and-tables"):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / f"notebooks/{name}.ipynb").touch()
    (tmp_path / "fake").write_text(FAKE_PYTHON)
    (tmp_path / "fake").chmod(0o755)

    def call(*arguments):
        (tmp_path / "asked").write_text("")
        here = ["make", "PY=./fake", "ENV=.installed", *arguments]
        done = subprocess.run(here, cwd=tmp_path, capture_output=True, text=True)
        time.sleep(0.02)  # what is touched next must be newer than what make made
        return done, re.findall(r"notebooks/(\d\d)", (tmp_path / "asked").read_text())

    return call


def test_make_reproduce_goes_on_when_a_notebook_fails_and_ends_with_99_and_an_error(make):
    done, run = make("reproduce", "SCALE=smoke")
    assert done.stdout.splitlines()[0] == "Scale: smoke, as asked."
    assert done.returncode != 0 and sorted(run) == ["01", "02", "99"] and run[-1] == "99"
    done, run = make("reproduce", "SCALE=smoke")
    assert done.returncode != 0 and run == ["01"]  # what has finished is not done again
    done, run = make("reproduce", "SCALE=smoke", "N=2")
    assert done.returncode == 0 and sorted(run) == ["01", "02", "99"] and run[-1] == "99"
    done, run = make("reproduce", "SCALE=smoke", "N=2")
    assert done.returncode == 0 and run == []


def test_make_reproduce_is_the_paper_and_make_beyond_the_rest(make, tmp_path):
    (tmp_path / "notebooks/B1-more.ipynb").touch()
    done, run = make("reproduce", "SCALE=smoke", "N=2")
    assert done.returncode == 0 and run[-1] == "99"
    assert "B1" not in (tmp_path / "asked").read_text()
    done, run = make("beyond", "SCALE=smoke", "N=2")
    assert done.returncode == 0 and run == ["99"]  # it shows what is new
    assert "notebooks/B1-more.ipynb --scale smoke" in (tmp_path / "asked").read_text()


def test_make_runs_again_what_a_change_concerns_and_no_more(make, tmp_path):
    make("reproduce", "SCALE=smoke", "N=2")
    due = {"deimos/report/figures.py": ["99"], "deimos/experiment/loop.py": ["01", "02", "99"]}
    due["deimos/record/results.py"] = ["99"]
    due["notebooks/02-good.ipynb"] = ["02", "99"]
    for changed, expected in due.items():
        (tmp_path / changed).touch()
        assert sorted(make("reproduce", "SCALE=smoke", "N=2")[1]) == expected
    assert make("figures", "SCALE=smoke", "N=2")[1] == ["99"]


def test_make_runs_one_notebook_alone_at_the_scale_asked_for(make, tmp_path):
    done, run = make("notebooks/executed/02-good.ipynb", "SCALE=paper", "N=5")
    assert done.returncode == 0 and run == ["02"]
    assert "notebooks/02-good.ipynb --scale paper --repeats 5" in (tmp_path / "asked").read_text()


def test_make_gives_ray_the_experiments_that_are_due_together_and_draws_here(make, tmp_path):
    ray = ("reproduce", "SCALE=smoke", "ENGINE=ray")
    for given in ("notebooks/01-bad.ipynb notebooks/02-good.ipynb ", ""):
        done, _ = make(*ray, "GPUS_PER_TASK=0.5")
        engine, *others = (tmp_path / "asked").read_text().splitlines()
        assert engine == f"-m deimos.execution.ray_engine {given}--scale smoke --gpus-per-task 0.5"
        assert ("99" in "".join(others)) is bool(given) and done.returncode == 0
    (tmp_path / "notebooks/02-good.ipynb").touch()
    assert make(*ray)[1] == ["02", "99"]
    (tmp_path / "notebooks/01-bad.ipynb").touch()
    assert make("notebooks/executed/01-bad.ipynb", *ray[1:])[1] == ["01"]
    done, run = make(*ray, "GPUS_PER_TASK=0.25", "N=3")
    assert done.returncode != 0 and run == ["01", "02"]  # it was refused: nothing more is done


@pytest.mark.parametrize(
    "wrong", ["ENGINE=dask", "SCALE=huge", "SCALE=paper quick", "N=0", "N=two"]
)
def test_make_refuses_a_scale_or_number_that_is_none(make, wrong):
    refused, _ = make("reproduce", wrong)
    name, value = wrong.split("=")
    assert refused.returncode != 0 and refused.stdout == ""
    assert f'{name} is "{value}" but must be' in refused.stderr


def test_make_says_which_python_it_needs(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).touch()
    old = tmp_path / "python-of-2020"
    old.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info = (3, 9)\nexec(sys.argv[2])\n"
    )
    old.chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CONDA")}
    refused = subprocess.run(
        ["make", "env", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, env=clean
    )
    assert refused.returncode != 0 and not (tmp_path / ".venv").exists()
    assert "deimos needs Python 3.11 or newer" in refused.stderr and "is 3.9:" in refused.stderr


@pytest.mark.parametrize(
    ("typed", "kind", "read"),
    [
        ("0123", object, "0123"),
        ("0123", str, "0123"),
        ("123", str, "123"),
        ("1.10", str, "1.10"),
        ("yes", str | None, "yes"),
        ("no", bool, "no"),
        ("1_000", int, "1_000"),
        ("1:30", str, "1:30"),
        ("2024-01-05", str, "2024-01-05"),
        ("0x1F", object, "0x1F"),
        ("null", str | None, None),
        ("true", bool, True),
        ("12", int, 12),
        ("-1.5", float, -1.5),
        ("1.0e-5", float, 1e-5),
        ("[0123, a]", list[str], ["0123", "a"]),
        ("[1, 2]", list[int], [1, 2]),
    ],
)
def test_a_value_from_the_command_line_is_what_was_typed(typed, kind, read):
    found = parameters.read_value("p", typed, kind)
    assert found == read and type(found) is type(read)


def test_a_word_of_digits_comes_to_the_notebook_to_the_letter(tmp_path, write_notebook):
    file = write_notebook(tmp_path / "tiny.ipynb", 'barcode: str = ""\nn: int = 1')
    given = parameters.parameters_for(file, "paper", None, [("barcode", "0123"), ("n", "7")])
    assert given == {"barcode": "0123", "n": 7}
    with pytest.raises(ValueError, match="n = '0123' is str, not int"):
        parameters.parameters_for(file, "paper", None, [("n", "0123")])
