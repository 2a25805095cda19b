"""One notebook headless: its parameters checked, every cell run, the result kept only if all did.

    python -m deimos.reproduce notebooks/04-mnist-7-vs-9.ipynb --scale quick --repeats 3
    python -m deimos.reproduce --summary

A notebook's own parameters are the paper's; `notebooks/scales/SCALE.yaml` says what a smaller scale
changes. Beside the executed notebook stand its HTML and a small JSON file that says how it went.
"""

import argparse
import ast
import json
import os
import re
import signal
import sys
import time
import typing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType

import nbconvert
import nbformat
import pandas as pd
import papermill
import yaml
from mlflow.exceptions import MlflowException

from deimos import limits, tracking
from deimos.record import alive, archive, store
from deimos.record.reading import REFERENCE

NOTEBOOKS = tracking.ROOT / "notebooks"
KERNEL_ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # matrix products that repeat; read when CUDA starts
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # glibc: keep freed memory. Fits free and take the same megabytes at every step, and each time
    # the kernel of the system clears them anew.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31),
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_ARENA_MAX": "1",  # else each thread's memory lies in heaps that are given back whole
}


@dataclass(frozen=True)
class Execution:
    """How a notebook's last execution went, with the number of its new, resumed, skipped runs."""

    notebook: str
    scale: str
    status: str  # finished | failed | stopped | refused
    minutes: float
    error: str = ""
    new: int = 0
    resumed: int = 0
    skipped: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)  # how many claims came out how


def assigned(notebook: Path) -> Iterator[tuple[str, object, object]]:
    """Name, type and value of each parameter, from the cells tagged `parameters`."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.AnnAssign):
                    kind = eval(ast.unparse(line.annotation))
                    yield line.target.id, kind, ast.literal_eval(line.value)
                elif isinstance(line, ast.Assign):
                    value = ast.literal_eval(line.value)
                    yield line.targets[0].id, type(value), value


def declared(notebook: Path) -> dict[str, object]:
    """Each parameter and its type."""
    return {name: kind for name, kind, _ in assigned(notebook)}


def is_a(value: object, kind: object) -> bool:
    """Whether a parameter's value fits its annotation: an int is a float, a bool is no number."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is UnionType:
        return any(is_a(value, k) for k in inner)
    if origin is list:
        return isinstance(value, list) and all(is_a(v, inner[0]) for v in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else origin or kind)


def check(notebook: Path, parameters: dict[str, object]) -> None:
    """Papermill only warns of an unknown parameter: raise `ValueError` naming all that is wrong."""
    kinds, problems = declared(notebook), []
    values = {name: value for name, _, value in assigned(notebook)}
    for name, value in parameters.items():
        if name not in kinds:
            problems.append(limits.unknown("parameter", name, kinds))
        elif not is_a(value, kinds[name]):
            wanted = getattr(kinds[name], "__name__", kinds[name])
            problem = f"{name} = {value!r} is {type(value).__name__}, not {wanted}"
            if wanted == "float" and re.fullmatch(r"-?[0-9]+e-?[0-9]+", str(value)):
                problem += f": write {str(value).replace('e', '.0e')}"  # else a word to YAML
            problems.append(problem)
            del values[name]
        else:
            values[name] = value
    if problems := dict.fromkeys(problems + impossible(values, kinds)):
        raise ValueError(f"{notebook.name}: " + "; ".join(problems))


def impossible(values: dict[str, object], kinds: dict[str, object]) -> list[str]:
    """What is wrong with a notebook's parameters as the settings of a fleet for each batch size.

    A list of words names methods; another list beside `batch_sizes` has an entry for each of them.
    """
    said, values = [], dict(values)
    sizes = values.pop("batch_sizes", [values.get("batch_size")])
    if not sizes:
        said.append("batch_sizes is empty")
    for name in ("n_acquired", "n_points"):
        if isinstance(values.get(name), list) and len(values[name]) != len(sizes):
            got = len(values.pop(name))
            said.append(f"{name} has {got} entries and batch_sizes {len(sizes)}, wanted as many")
    words = [name for name in values if kinds[name] == list[str] and name != "methods"]
    for name in words:
        said += limits.problems({"methods": values.pop(name)}) if values[name] else []
    for at, size in enumerate(sizes or [None]):
        one = {
            k: values[k][at] for k in ("n_acquired", "n_points") if isinstance(values.get(k), list)
        }
        said += limits.problems(values | one | {"batch_size": size})
    return said


def read_value(name: str, value: str) -> object:
    """A parameter from the command line: a number, a word, or a list in brackets."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"-p {name} {value}: write a value as YAML, such as [1, 2]") from error


def scale_parameters(notebook: Path, scale: str) -> dict[str, object]:
    """What `scale` changes; `ValueError` if its file does not name the notebook."""
    if scale in ("paper", REFERENCE):
        return {}
    file = notebook.parent / "scales" / f"{scale}.yaml"
    scales = yaml.safe_load(file.read_text())
    if notebook.stem not in scales:
        raise ValueError(f"{file.name} says nothing about {notebook.stem}")
    return scales[notebook.stem]


def write_html(executed: Path, html: Path) -> None:
    """The notebook as one page; of a progress bar only its last state is left."""
    exporter = nbconvert.HTMLExporter()
    exporter.register_preprocessor("nbconvert.preprocessors.CoalesceStreamsPreprocessor", True)
    html.write_text(exporter.from_filename(str(executed))[0], encoding="utf-8")


def execute(notebook: Path, scale: str, parameters: dict[str, object], folder: Path) -> Execution:
    """Run it, itself an MLflow run; only if every cell ran does its own name appear in `folder`."""
    name, began, html = notebook.stem, time.monotonic(), folder / f"{notebook.stem}.html"
    partial, failed = folder / f"{name}.partial.ipynb", folder / f"{name}.failed.ipynb"
    failed.unlink(missing_ok=True)
    run_id = tracking.open_execution(name, scale)
    status, error = "stopped", "what is recorded is kept; the next execution goes on from there"
    os.environ["DEIMOS_EXECUTION"] = run_id  # the kernel inherits it
    try:
        papermill.execute_notebook(
            notebook,
            partial,
            parameters,
            kernel_name="python3",
            cwd=notebook.parent,
            stderr_file=sys.stderr,  # where the kernel draws its progress bars
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
        write_html(partial, html)
        status, error = "finished", ""
    except KeyboardInterrupt:
        for another in (signal.SIGINT, signal.SIGTERM):  # must not cut short what follows
            signal.signal(another, signal.SIG_IGN)
    except papermill.PapermillExecutionError as raised:
        status = "failed"
        said = store.why(raised.evalue)
        error = f"cell {raised.exec_count}: {raised.ename}: {said} (see {failed.name})"
    except Exception as problem:  # a dead kernel, a full disk: this is where each is reported
        said = store.why(problem)
        status, error = "failed", f"{type(problem).__name__}: {said} (see {failed.name})"
    finally:
        del os.environ["DEIMOS_EXECUTION"]
    counts, minutes = {}, (time.monotonic() - began) / 60
    try:
        tracking.close_execution(run_id, status, html if status == "finished" else None)
        counts = tracking.execution_summary(run_id)
    except (MlflowException, OSError) as problem:  # the next execution notes that this one ended
        status, error = "failed", error or f"its end cannot be recorded: {store.why(problem)}"
    if partial.exists():
        partial.replace(folder / notebook.name if status == "finished" else failed)
    return Execution(name, scale, status, round(minutes, 2), error, **counts)


def status_file(notebook: Path) -> Path:
    """Where it says how the last execution of a notebook went."""
    folder = notebook.parent / "executed"
    folder.mkdir(exist_ok=True)
    return folder / f"{notebook.stem}.json"


def note(notebook: Path, execution: Execution) -> None:
    """Write down how it went, for `summary`."""
    status_file(notebook).write_text(json.dumps(asdict(execution), indent=1))


def summary(notebooks: Path) -> tuple[str, bool]:
    """The closing table of `make reproduce`, and whether every notebook finished."""
    rows, said = [], []
    for notebook in sorted(notebooks.glob("*.ipynb")):
        file = notebooks / "executed" / f"{notebook.stem}.json"
        row = json.loads(file.read_text()) if file.exists() else {"status": "not run"}
        outcomes = row.get("outcomes", {})
        claims = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
        rows.append(row | {"notebook": notebook.stem, "claims": claims or None})
        if row.get("error"):
            said.append(f"{notebook.stem}: {row['error']}")
    columns = ["notebook", "scale", "status", "new", "resumed", "skipped", "minutes", "claims"]
    table = pd.DataFrame(rows, columns=columns)
    whole = bool((table.status == "finished").all())
    counts = {c: "{:.0f}".format for c in columns[3:6]}
    text = table.to_string(index=False, na_rep="-", formatters=counts)
    where = "Every claim with its numbers, every figure: notebooks/executed/*.html   Runs: make ui"
    return "\n".join(["", text, "", *said, "", where]), whole


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path, nargs="?")
    parser.add_argument("--scale", choices=(*tracking.SCALES, REFERENCE), default="paper")
    parser.add_argument("--repeats", type=int, help="for a notebook that has them")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--summary", action="store_true", help="how the last executions went")
    given = parser.parse_args(arguments)
    if given.summary or given.notebook is None:
        text, whole = summary(NOTEBOOKS)
        print(text)
        return int(not whole)

    for ending in (signal.SIGTERM, signal.SIGHUP):  # a batch system's Ctrl-C, a closed terminal
        if signal.getsignal(ending) != signal.SIG_IGN:  # unless nohup says otherwise
            signal.signal(ending, signal.default_int_handler)
    os.environ.update(KERNEL_ENVIRONMENT)
    notebook = given.notebook.resolve()
    try:
        with alive.alone(notebook, f"executing {notebook.name}"):
            status_file(notebook).unlink(missing_ok=True)
            execution = checked_and_executed(notebook, given, notebook.parent / "executed")
            note(notebook, execution)
    except KeyboardInterrupt:  # while it waited for the other, or before it began
        execution = Execution(notebook.stem, given.scale, "stopped", 0.0, "nothing was begun")
    except OSError as refusal:  # there is no such notebook, or no place for its status
        execution = Execution(notebook.stem, given.scale, "refused", 0.0, str(refusal))
    if execution.status != "finished":
        print(f"{notebook.stem} {execution.status}: {execution.error}", file=sys.stderr)
    return {"finished": 0, "stopped": 130}.get(execution.status, 1)


def parameters_for(
    notebook: Path, scale: str, repeats: int | None, by_hand: Sequence[Sequence[str]] = ()
) -> dict[str, object]:
    """What differs from the notebook's own parameters; `ValueError` naming all that is wrong."""
    common = {"scale": scale, "repeats": repeats}
    asked = {k: v for k, v in common.items() if v is not None and k in declared(notebook)}
    given = {name: read_value(name, value) for name, value in by_hand}
    parameters = scale_parameters(notebook, scale) | asked | given
    check(notebook, parameters)
    return parameters


def checked_and_executed(notebook: Path, given: argparse.Namespace, folder: Path) -> Execution:
    """The execution that the command line asks for, or how it was refused."""
    try:
        parameters = parameters_for(notebook, given.scale, given.repeats, given.p)
        if given.scale == REFERENCE:
            if not notebook.stem.startswith("99-"):
                raise ValueError(
                    "nothing is run at the scale reference, that of the runs that the repository "
                    "keeps: only 99-figures-and-tables shows them"
                )
            archive.read_references()
        return execute(notebook, given.scale, parameters, folder)
    except (ValueError, OSError) as refusal:  # a parameter, a file, a record out of reach
        return Execution(notebook.stem, given.scale, "refused", 0.0, str(refusal))


if __name__ == "__main__":
    sys.exit(main())
