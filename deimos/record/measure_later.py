"""Measure what kept runs did not: an archive gets the metrics of batches that are newer than it.

    python -m deimos.record.measure_later FILE...

They come from the ids that a run acquired, the data, which must be those that it had, and the mean
predictions that it kept, if it kept any. Nothing is fitted, and what is there stays: a new value
has the time of the iteration that asked for its batch.
"""

import argparse
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import torch

from deimos.experiment.iteration import about_batch
from deimos.record.archive import VALUE_COLUMNS, contents
from deimos.record.points import ACQUIRED
from deimos.record.queries import IDS, LABELLED
from deimos.tasks import mnist
from deimos.tasks.splicing import load_splicing
from deimos.tasks.task import Task


def measure(file: Path, tasks: Mapping[str, Task]) -> int:
    """Add to an archive what its runs of these tasks lack; how many values that were.

    Raises `ValueError` where a run had other data.
    """
    values, runs = contents(file)
    added = []
    with zipfile.ZipFile(file) as archive:
        for id, run in runs.items():
            task, own = tasks.get(run["tags"]["experiment"]), values[values.run == id]
            if task is None or IDS not in set(own.metric):
                continue
            if run["params"]["checksum"] != task.checksum:
                raise ValueError(f"{run['name']} in {file.name} ran on other data than are here")
            kept = f"artifacts/{id}/{ACQUIRED}"
            said = pd.read_csv(archive.open(kept)) if kept in archive.namelist() else None
            added += _of_run(own, said, task)
    if added:
        _append(file, runs, pd.DataFrame(added, columns=VALUE_COLUMNS))
    return len(added)


def _of_run(
    own: pd.DataFrame, said: pd.DataFrame | None, task: Task
) -> Iterator[tuple[str, str, int, int, float]]:
    """Yield the rows that a run lacks, by its measurements and its kept predictions."""
    there = set(own.metric)
    ids = own[own.metric == IDS].set_index("step").value.astype(int).sort_index()
    steps = own[own.metric == LABELLED].sort_values("step")
    ends = [*steps.step[1:], ids.index.max()]
    for step, last in zip(steps.itertuples(), ends, strict=True):
        batch = ids.loc[step.step + 1 : last].tolist()  # positions count from 1
        if not batch:
            continue
        answers = None
        if said is not None:
            rows = said[said.position.between(step.step + 1, last)]
            answers = torch.tensor(rows.filter(like="output_").to_numpy())
        for name, value in about_batch(task, batch, answers).items():
            if name not in there:
                yield step.run, name, step.step, step.timestamp, value


def _append(file: Path, runs: dict[str, dict], added: pd.DataFrame) -> None:
    """Write the archive anew with more measurements; a tag of each run names them."""
    for id, rows in added.groupby("run"):
        before = runs[id]["tags"].get("measured_later", "").split(", ")
        names = {*filter(None, before), *rows.metric}
        runs[id]["tags"]["measured_later"] = ", ".join(sorted(names))
    part = file.with_name(f"{file.name}.part")
    try:
        with (
            zipfile.ZipFile(file) as old,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
        ):
            for entry in old.infolist():
                content = old.read(entry)
                if entry.filename == "metrics.csv":
                    content += added.to_csv(index=False, header=False).encode()
                if entry.filename == "runs.json":
                    content = json.dumps(list(runs.values()), indent=1, ensure_ascii=False)
                new.writestr(entry, content, zipfile.ZIP_DEFLATED)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def main() -> None:
    """Measure the runs of digits, and of a table of splicing, in these archives."""
    parser = argparse.ArgumentParser(prog="python -m deimos.record.measure_later")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="archives, rewritten")
    parser.add_argument("--table", type=Path, help="the table that runs of splicing had")
    asked = parser.parse_args()
    tasks = [mnist.load_7_vs_9("paper"), mnist.load_0_to_9("paper")]
    tasks += [load_splicing("paper", asked.table)] if asked.table else []
    for file in asked.files:
        print(f"{file}: {measure(file, {task.name: task for task in tasks}):,} values added")


if __name__ == "__main__":
    main()
