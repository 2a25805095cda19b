"""Measure what kept runs did not: an archive gets the metrics of batches that are newer than it.

    python -m deimos.record.measure_later FILE...

The share of confident pairs comes from the mean predictions that a run kept, the hardness from the
ids that it acquired and the digits, which must be those that it had. Nothing is fitted, and what is
there stays: a new value has the time of the diversity of its batch.
"""

import argparse
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch

from deimos.models.mc_dropout import confident_share
from deimos.record.archive import VALUE_COLUMNS, contents
from deimos.record.points import ACQUIRED
from deimos.tasks import mnist
from deimos.tasks.task import Task

DIVERSITY, CONFIDENT, HARDNESS = (
    f"batch/{n}" for n in ("diversity", "share_confident", "hardness")
)


def measure(file: Path, tasks: Mapping[str, Task]) -> int:
    """Add to an archive what its runs of these tasks lack; how many values that were.

    Raises `ValueError` where a run had other data.
    """
    values, runs = contents(file)
    added = []
    with zipfile.ZipFile(file) as archive:
        for id, run in runs.items():
            task, own = tasks.get(run["tags"]["experiment"]), values[values.run == id]
            if task is None or DIVERSITY not in set(own.metric):
                continue
            if run["params"]["checksum"] != task.checksum:
                raise ValueError(f"{run['name']} in {file.name} ran on other data than are here")
            kept = f"artifacts/{id}/{ACQUIRED}"
            said = pd.read_csv(archive.open(kept)) if kept in archive.namelist() else None
            added += _of_run(own, said, task, int(run["params"]["batch_size"]))
    if added:
        _append(file, runs, pd.DataFrame(added, columns=VALUE_COLUMNS))
    return len(added)


def _of_run(
    own: pd.DataFrame, said: pd.DataFrame | None, task: Task, batch_size: int
) -> list[tuple[str, str, int, int, float]]:
    """The rows that a run lacks, by its measurements and its kept predictions."""
    ids = own[own.metric == "batch/id"].set_index("step").value.astype(int)
    there, rows = set(own.metric), []
    for diversity in own[own.metric == DIVERSITY].itertuples():
        first, last = diversity.step + 1, diversity.step + batch_size  # positions count from 1
        at = diversity.step, diversity.timestamp
        if HARDNESS not in there:
            batch = ids.sort_index().loc[first:last].tolist()
            rows.append((diversity.run, HARDNESS, *at, task.hardness(batch)))
        if said is not None and CONFIDENT not in there:
            answers = said[said.position.between(first, last)].filter(like="output_")
            share = confident_share(torch.tensor(answers.to_numpy()))
            rows.append((diversity.run, CONFIDENT, *at, share))
    return rows


def _append(file: Path, runs: dict[str, dict], added: pd.DataFrame) -> None:
    """Write the archive anew with more measurements; a tag of each run names them."""
    for id, rows in added.groupby("run"):
        runs[id]["tags"]["measured_later"] = ", ".join(sorted(rows.metric.unique()))
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
    """Measure the runs of the digits in these archives."""
    parser = argparse.ArgumentParser(prog="python -m deimos.record.measure_later")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="archives, rewritten")
    files = parser.parse_args().files
    tasks = {task.name: task for task in (mnist.load_7_vs_9("paper"), mnist.load_0_to_9("paper"))}
    for file in files:
        print(f"{file}: {measure(file, tasks):,} values added")


if __name__ == "__main__":
    main()
