"""Promises between the files at the top: README, Makefile, lock, notebooks, scales."""

import ast
import re
import subprocess
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import distributions
from itertools import chain, groupby
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import deimos
from deimos.execution.parameters import check_parameters, declared
from deimos.record import provenance
from deimos.studies import batch_worth

ROOT = Path(deimos.__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = ["Claim", "Parameters", "Setup", "Run", "Table", "Figure", "Verdict"]

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def code(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def modules():
    return [path.relative_to(ROOT) for path in sorted((ROOT / "deimos").rglob("[!_]*.py"))]


def dotted(path):
    """The name by which a module is imported."""
    return ".".join(path.with_suffix("").parts)


def imported_by(path):
    """Every module that a file may import: of `from a import b`, a and a.b."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def targets():
    """The targets that `make help` lists."""
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^  make (\S+)", said.stdout, flags=re.MULTILINE))


def test_help_lists_every_phony_target_that_a_person_would_call():
    phony = re.findall(r"^\.PHONY: (\w+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert targets() == {*phony, "notebooks/executed/%.ipynb"} - {"settings"}


@pytest.mark.parametrize("package", sorted({path.parent for path in modules()}), ids=str)
def test_the_docstring_of_a_package_names_its_modules(package):
    docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    said = re.findall(r"\w+", docstring)
    here = [path.stem for path in modules() if path.parent == package]
    assert [name for name in here if name not in said] == []


# Imports run down these floors and never up; on one floor they may run sideways, in no circle.
FLOORS = (
    ("benchmarks", "label_next", "__main__"),
    ("execution", "report"),
    ("tracking",),
    ("record", "studies"),
    ("experiment",),
    ("expected_improvement", "baselines", "k_center", "pool"),
    ("acquisition", "models", "tasks", "stats", "extras", "progress"),
)


def floor(name):
    """The floor of a module by its dotted name, counted from the top."""
    part = name.removeprefix("deimos.").partition(".")[0]
    (number,) = [n for n, parts in enumerate(FLOORS) if part in parts]
    return number


def test_imports_run_down_the_floors_and_never_up():
    paths = [path for path in (ROOT / "deimos").rglob("*.py") if path.parent != ROOT / "deimos"]
    paths += [path for path in (ROOT / "deimos").glob("*.py") if path.name != "__init__.py"]
    paths = [path.relative_to(ROOT) for path in (*paths, *(ROOT / "benchmarks").glob("*.py"))]
    names = {dotted(path): path for path in paths}
    up = [
        f"{name} imports {other}"
        for name, path in names.items()
        for other in {*imported_by(path)} & names.keys()
        if floor(other) < floor(name)
    ]
    assert len(names) > 50 and up == []


def test_the_record_has_one_door():
    """Whoever is above the record reaches it through `tracking`, and imports no module of it."""
    paths = [
        p.relative_to(ROOT)
        for part in ("deimos", "benchmarks")
        for p in (ROOT / part).rglob("*.py")
    ]
    past = [
        f"{path} imports {other}"
        for path in paths
        if "record" not in path.parts and path.name != "tracking.py"
        for other in imported_by(path)
        if other.startswith("deimos.record")
    ]
    assert len(paths) > 50 and past == []


def test_no_module_imports_one_that_imports_it():
    names = {dotted(path): path for path in modules()}
    graph = {name: {*imported_by(path)} & names.keys() - {name} for name, path in names.items()}
    assert len([*TopologicalSorter(graph).static_order()]) == len(names)  # else CycleError


def test_nothing_but_the_adapters_imports_the_libraries_that_they_are_for():
    imported = {dotted(path): {*imported_by(path)} for path in modules()}
    for library, adapters in {
        "baal": ["deimos.pool.for_baal"],
        "skactiveml": ["deimos.acquisition.from_skactiveml", "deimos.pool.for_skactiveml"],
        "bmdal_reg": ["deimos.acquisition.from_bmdal"],
    }.items():
        users = [n for n, found in imported.items() if library in {f.split(".")[0] for f in found}]
        assert users == adapters
    for adapter in ("deimos.pool.for_baal", "deimos.pool.for_skactiveml"):
        assert not any(adapter in found for found in imported.values())


@each_notebook
def test_a_notebook_is_committed_without_outputs_and_counts(notebook):
    assert all(cell.execution_count is None and not cell.outputs for cell in code(notebook))
    metadata = nbformat.read(notebook, as_version=4).metadata
    assert metadata.kernelspec.name == "python3" and "papermill" not in metadata


@each_notebook
def test_a_notebook_asks_a_question_and_answers_it_under_the_same_headings(notebook):
    title, *cells = nbformat.read(notebook, as_version=4).cells
    assert title.cell_type == "markdown" and "?" in title.source.splitlines()[0]
    headings = [re.match(r"#+ (\w+)|", cell.source)[1] for cell in cells]
    sections = [heading for heading, _ in groupby(headings)]  # one may have two cells
    if notebook.stem.startswith("99"):  # which shows before it tells
        assert sections == [*SECTIONS[:4], "Figure", "Table", "Verdict"]
    else:
        assert sections == SECTIONS


@each_notebook
def test_a_notebook_is_short_and_defines_nothing(notebook):
    lengths = [len(re.findall(r"^ *[^# \n]", c.source, flags=re.MULTILINE)) for c in code(notebook)]
    parameters = [c for c in code(notebook) if "parameters" in c.metadata.get("tags", [])]
    most = {c.source: 20 for c in parameters}  # a line a setting
    assert sum(lengths) <= 80
    assert all(n <= most.get(c.source, 15) for c, n in zip(code(notebook), lengths, strict=True))
    for cell in code(notebook):
        nodes = list(ast.walk(ast.parse(cell.source)))  # `!` and `%` lines do not parse
        assert not any(isinstance(n, ast.FunctionDef | ast.ClassDef) for n in nodes)
        assert not re.search(r"\bchdir\b|\bwarnings\b|\bplt\b|\bget_ipython\b", cell.source)


@each_notebook
def test_papermill_shows_every_parameter(notebook):
    assert set(papermill.inspect_notebook(str(notebook))) == set(declared(notebook))


@pytest.mark.parametrize("scale", ["quick", "smoke"])
def test_a_scale_file_names_every_notebook_and_only_its_parameters(scale):
    said = yaml.safe_load((ROOT / f"notebooks/scales/{scale}.yaml").read_text())
    assert sorted(said) == [path.stem for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        check_parameters(path, said[path.stem])


def test_the_lock_satisfies_pyproject_and_is_hashed_throughout():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    entries = re.split(r"\n(?=\w)", (ROOT / "requirements.lock").read_text())[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    for requirement in map(Requirement, asked):
        if requirement.name != project["name"]:
            name = requirement.name.lower().replace("_", "-")
            versions = [version for pinned, _, version in pins() if pinned == name]
            assert versions and all(v in requirement.specifier for v in versions), name


def pins():
    """Name, extras and version of every line of the lock."""
    text = (ROOT / "requirements.lock").read_text()
    lines = re.findall(r"^([\w.-]+)(?:\[(.*)\])?==([\w.!+-]+)", text, flags=re.MULTILINE)
    return [(name, set(extras.split(", ")), version) for name, extras, version in lines]


def test_what_a_package_asks_for_with_extras_is_locked_with_them():
    """Else pip looks at its newest version too, and refuses everything, having no hash of that."""
    locked = {name: extras for name, extras, _ in pins()}
    here = [one for one in distributions() if canonicalize_name(one.name) in locked]
    asked = [Requirement(text) for one in here for text in one.requires or []]
    applying = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert any(one.extras for one in applying)
    for one in applying:
        assert one.extras <= locked.get(canonicalize_name(one.name), one.extras), str(one)


def test_the_lock_names_no_index_and_no_local_path():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.match(r"\s*(#|--hash=sha256:[0-9a-f]{64}|[\w.-]+(\[.*\])?==)", line)
        assert "://" not in line


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_no_file_mentions_a_place_on_somebodys_machine():
    listed = ["git", "ls-files", "-co", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {f: (ROOT / f).read_bytes() for f in files.splitlines() if (ROOT / f).is_file()}
    place = rb"(?<![\w.:/-])/(home|root|Users|tmp|work|opt|mnt)/\w"
    assert [name for name, text in texts.items() if re.search(place, text)] == []


def test_make_and_the_record_agree_on_what_the_science_modules_are():
    rules = subprocess.run(["make", "-pn", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    made = re.search(r"^SCIENCE := (.*)$", rules, flags=re.MULTILINE)[1].split()
    counted = {f"deimos/{name}.py" for name in provenance.science_modules()}
    assert {path for path in made if path.endswith(".py")} == counted and len(counted) > 25
    folders = {str(Path(path).parent) for path in counted} - {"deimos"}
    stored = {
        path.relative_to(ROOT).as_posix() for f in folders for path in (ROOT / f).glob("*.json")
    }
    assert {path for path in made if path.endswith(".json")} == stored != set()


@pytest.mark.parametrize(
    ("notebook", "names", "code"),
    [
        ("01-synthetic-1d", ["studies/one_dimension"], '"modules": ["studies/one_dimension"]'),
        (
            "A1-greedy-vs-optimal",
            ["studies/greedy_vs_optimal"],
            '"modules": ["studies/greedy_vs_optimal"]',
        ),
        ("B1-your-own-pool", batch_worth.MODULES, '"modules": batch_worth.MODULES'),
    ],
    ids=["01", "A1", "B1"],
)
def test_what_decides_a_study_is_all_in_its_fingerprint_and_makes_it_due(notebook, names, code):
    named = {f"deimos/{name}.py" for name in names}
    counted = {dotted(Path(f"deimos/{name}")) for name in provenance.science_modules()}
    counted |= {*map(dotted, map(Path, named))}
    used = {*chain(*map(imported_by, named))} & {*map(dotted, modules())}
    used -= {"deimos.progress"}  # it shows how far a study has come, and decides nothing
    assert used <= counted
    rules = (ROOT / "Makefile").read_text().replace("\\\n", "")
    listed = re.search(rf"^\$\(EXECUTED\)/{notebook}.ipynb: (.*)", rules, flags=re.MULTILINE)[1]
    shown = subprocess.run(
        ["make", "-s", f"--eval=shown: ; @echo {listed}", "shown"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {*shown.stdout.split()} == named
    cells = nbformat.read(ROOT / f"notebooks/{notebook}.ipynb", as_version=4).cells
    assert any(code in cell.source for cell in cells)


def test_ci_runs_the_readmes_own_test_commands():
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == ["make test", "exec make soak"]
    assert "make test" in (ROOT / "README.md").read_text()
