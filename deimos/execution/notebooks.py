"""One notebook headless: its parameters checked, every cell run, the result kept only if all did.

    python -m deimos.execution.notebooks notebooks/04-mnist-7-vs-9.ipynb --scale quick --repeats 3
    python -m deimos.execution.notebooks --summary

A notebook's own parameters are the paper's; `notebooks/scales/SCALE.yaml` says what a smaller scale
changes. Beside the executed notebook stand its HTML and a small JSON file that says how it went.

At the scale "reference" a notebook shows the runs that the repository keeps, in a folder of that
name. Cells with the tag "not-at-reference", which need data or fit a network, are then left out.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deimos import tracking
from deimos.execution.parameters import parameters_for
from deimos.extras import extra
from deimos.tracking import REFERENCE

with extra("reproduce"):
    import nbconvert
    import nbformat
    import pandas as pd
    import papermill
    from mlflow.exceptions import MlflowException

NOTEBOOKS = tracking.ROOT / "notebooks"
NOT_AT_REFERENCE = "not-at-reference"
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
    """Outcome of a notebook's last execution, with its new, resumed and skipped runs."""

    notebook: str
    scale: str
    status: str  # finished | failed | stopped | refused
    minutes: float
    error: str = ""
    new: int = 0
    resumed: int = 0
    skipped: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)  # how many claims came out how


def write_html(executed: Path, html: Path) -> None:
    """The notebook as one page; of a progress bar only its last state is left."""
    exporter = nbconvert.HTMLExporter()
    exporter.register_preprocessor("nbconvert.preprocessors.CoalesceStreamsPreprocessor", True)
    html.write_text(exporter.from_filename(str(executed))[0], encoding="utf-8")


def execute_notebook(
    notebook: Path, scale: str, parameters: dict[str, object], folder: Path
) -> Execution:
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
            progress_bar=False,  # of cells, which says nothing of the one that takes long
            stderr_file=sys.stderr,  # where the kernel shows its own progress
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=50"],
            skip_cells_with_tag=NOT_AT_REFERENCE if scale == REFERENCE else "skip-execution",
        )
        write_html(partial, html)
        status, error = "finished", ""
    except KeyboardInterrupt:
        for another in (signal.SIGINT, signal.SIGTERM):  # must not cut short what follows
            signal.signal(another, signal.SIG_IGN)
    except papermill.PapermillExecutionError as raised:
        status = "failed"
        said = tracking.why(raised.evalue)
        error = f"cell {raised.exec_count}: {raised.ename}: {said} (see {failed.name})"
    except Exception as problem:  # a dead kernel, a full disk: this is where each is reported
        said = tracking.why(problem)
        status, error = "failed", f"{type(problem).__name__}: {said} (see {failed.name})"
    finally:
        del os.environ["DEIMOS_EXECUTION"]
    counts, minutes = {}, (time.monotonic() - began) / 60
    try:
        tracking.close_execution(run_id, status, html if status == "finished" else None)
        counts = tracking.execution_summary(run_id)
    except (MlflowException, OSError) as problem:  # the next execution notes that this one ended
        status, error = "failed", error or f"its end cannot be recorded: {tracking.why(problem)}"
    if partial.exists():
        partial.replace(folder / notebook.name if status == "finished" else failed)
    return Execution(name, scale, status, round(minutes, 2), error, **counts)


def status_file(notebook: Path, scale: str) -> Path:
    """File that says how the last execution of a notebook went."""
    folder = tracking.executed_folder(notebook.parent, scale)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{notebook.stem}.json"


def note(notebook: Path, execution: Execution) -> None:
    """Write an execution's outcome to its status file, for `closing_table`."""
    status_file(notebook, execution.scale).write_text(json.dumps(asdict(execution), indent=1))


def shows_kept_runs(notebook: Path) -> bool:
    """Whether the repository keeps runs of this notebook: it can then be executed without data."""
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = any(NOT_AT_REFERENCE in cell.metadata.get("tags", []) for cell in cells)
    return tagged or notebook.stem == tracking.LAST_NOTEBOOK


def closing_table(notebooks: Path) -> tuple[str, bool]:
    """The closing table of `make reproduce`, and whether every notebook finished.

    Those beyond the paper, from B1 on, are there if they were executed.
    """
    rows, said = [], []
    for notebook in sorted(notebooks.glob("*.ipynb")):
        file = notebooks / "executed" / f"{notebook.stem}.json"
        if not file.exists() and notebook.stem.startswith("B"):
            continue
        row = json.loads(file.read_text()) if file.exists() else {"status": "not run"}
        rows.append(row | {"notebook": notebook.stem})
        if row.get("error"):
            said.append(f"{notebook.stem}: {row['error']}")
    columns = ["notebook", "scale", "status", "minutes", "new", "resumed", "skipped"]
    table = pd.DataFrame(rows, columns=columns)
    whole = bool((table.status == "finished").all())
    counts = {c: "{:.0f}".format for c in columns[-3:]} | {"minutes": "{:.1f}".format}
    text = table.to_string(index=False, na_rep="-", formatters=counts)
    return "\n".join(["", text, *(["", *said] if said else [])]), whole


def closing_screen(notebooks: Path) -> tuple[str, bool]:
    """The closing table, one line an experiment, and the page that shows everything."""
    text, whole = closing_table(notebooks)
    last = notebooks / "executed" / f"{tracking.LAST_NOTEBOOK}.json"
    told = json.loads(last.read_text()) if last.exists() else {"status": "not run"}
    if told["status"] == "finished":
        from deimos.report import side_by_side  # here: each notebook's driver would wait for it

        lines = side_by_side.experiment_lines(tracking.evidence(told["scale"]))
        lines = lines.rename(columns={"these runs": f"your runs, {told['scale']} scale"})
        lines = lines.assign(experiment=lines.experiment.str.partition(" (")[0])
        texts = lines.to_string(index=False, justify="left", formatters=_to_the_left(lines))
        page = last.with_suffix(".html").as_uri()
        text += f"\n\nDEIMOS less random, or the claims by outcome:\n\n{texts}"
        text += f"\n\nAll figures, tables and claims: {page}"
    return f"{text}\nThe same with every run behind it: make ui", whole


def _to_the_left(lines: pd.DataFrame) -> list[Callable[[str], str]]:
    """A formatter a column that pads its texts on the right."""
    return [f"{{:<{lines[column].str.len().max()}}}".format for column in lines]


def notebook_program(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path, nargs="?")
    parser.add_argument("--scale", choices=(*tracking.SCALES, REFERENCE), default="paper")
    parser.add_argument("--repeats", type=int, help="for a notebook that has them")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--summary", action="store_true", help="how the last executions went")
    given = parser.parse_args(arguments)
    if given.summary or given.notebook is None:
        text, whole = closing_screen(NOTEBOOKS)
        print(text)
        return int(not whole)

    for ending in (signal.SIGTERM, signal.SIGHUP):  # a batch system's Ctrl-C, a closed terminal
        if signal.getsignal(ending) != signal.SIG_IGN:  # unless nohup says otherwise
            signal.signal(ending, signal.default_int_handler)
    os.environ.update(KERNEL_ENVIRONMENT)
    if sys.stderr.isatty():  # which the kernel cannot see
        os.environ.setdefault("DEIMOS_PROGRESS", "bar")
    notebook = given.notebook.resolve()
    try:
        with tracking.exclusive(notebook, f"executing {notebook.name}"):
            status_file(notebook, given.scale).unlink(missing_ok=True)
            execution = checked_and_executed(notebook, given)
            note(notebook, execution)
    except KeyboardInterrupt:  # while it waited for the other, or before it began
        execution = Execution(notebook.stem, given.scale, "stopped", 0.0, "nothing was begun")
    except OSError as refusal:  # there is no such notebook, or no place for its status
        execution = Execution(notebook.stem, given.scale, "refused", 0.0, str(refusal))
    if execution.status == "finished":
        counts = f"{execution.new} new, {execution.resumed} resumed, {execution.skipped} skipped"
        print(f"{notebook.stem}: {execution.minutes:.1f} minutes; runs: {counts}", flush=True)
    else:
        print(f"{notebook.stem} {execution.status}: {execution.error}", file=sys.stderr)
    return {"finished": 0, "stopped": 130}.get(execution.status, 1)


def checked_and_executed(notebook: Path, given: argparse.Namespace) -> Execution:
    """The execution that the command line asks for, or how it was refused."""
    try:
        parameters = parameters_for(notebook, given.scale, given.repeats, given.p)
        if given.scale == REFERENCE:
            if not shows_kept_runs(notebook):
                raise ValueError(
                    "the scale reference shows the runs that the repository keeps, and it keeps "
                    f"none of {notebook.stem}: take another scale"
                )
            tracking.read_references()
        folder = tracking.executed_folder(notebook.parent, given.scale)
        return execute_notebook(notebook, given.scale, parameters, folder)
    except (ValueError, OSError) as refusal:  # a parameter, a file, a record out of reach
        return Execution(notebook.stem, given.scale, "refused", 0.0, str(refusal))


if __name__ == "__main__":
    sys.exit(notebook_program())
