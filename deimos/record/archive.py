"""The record in one file: runs leave a store and enter another, whatever its kind and its place.

An archive is a zip: `runs.json` tells what describes each run and its experiment, `metrics.csv` has
every value that was logged, `artifacts/` the runs' files. A run keeps the id of the store that made
it as its origin, so that nothing enters twice; one that went on since replaces its older self.
`mlruns/reference` keeps our own runs in this form. They are shown at the scale "reference", apart
from the user's own, and stand for none of these.
"""

import argparse
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from mlflow.entities import Dataset, DatasetInput, Metric, Param
from tqdm import tqdm

from deimos.data import ROOT
from deimos.record import executions, reading, store

REFERENCES = ROOT / "mlruns" / "reference"
ORIGIN = "origin"  # the tag of a copy: the id of the run it is of

There = dict[str, tuple[str, int]]  # origin → id and end of the store's run


def write(file: Path, artifacts: bool = True, **tags: str) -> int:
    """Every run of the store that has ended, with these tags, as an archive; how many there were.

    A file that is there already is replaced only when the new one is whole. The runs of
    `mlruns/reference` are left out.
    """
    client = store.client()
    places = {found.experiment_id: found for found in client.search_experiments(max_results=50_000)}
    runs = [run for run in reading.search(list(places), **tags) if _is_own(run)]
    part = file.with_name(f"{file.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            told, values = [], []
            for run in tqdm(runs, unit="run", desc=f"writing {file.name}", mininterval=1.0):
                told.append(_told(run, places[run.info.experiment_id]))
                values += _values(run)
                if artifacts:
                    _pack(run, archive)
            table = pd.DataFrame(values, columns=["run", "metric", "step", "timestamp", "value"])
            archive.writestr("runs.json", json.dumps(told, indent=1, ensure_ascii=False))
            archive.writestr("metrics.csv", table.to_csv(index=False))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return len(runs)


def read(file: Path, scale: str | None = None) -> tuple[int, int]:
    """Add an archive's runs to the store, at `scale` if given: how many entered, how many it had.

    Raises `ValueError` if the file is no archive. What was read before an interruption is not read
    again.
    """
    return _read(file, scale, _there())


def contents(file: Path) -> tuple[pd.DataFrame, dict[str, dict]]:
    """What an archive's runs measured, and what describes each, by origin; no store is needed."""
    with zipfile.ZipFile(file) as archive:
        runs = {run["origin"]: run for run in json.loads(archive.read("runs.json"))}
        return pd.read_csv(archive.open("metrics.csv")), runs


def read_references() -> int:
    """Our own runs, as the repository keeps them, into the store; how many were not there yet."""
    there = _there()
    files = sorted(REFERENCES.glob("*.zip"))
    return sum(_read(file, reading.REFERENCE, there)[0] for file in files)


def _there() -> There:
    return {_origin(run): (run.info.run_id, run.info.end_time or 0) for run in reading.search()}


def _read(file: Path, scale: str | None, there: There) -> tuple[int, int]:
    """`read`, into a store of which it is known what is `there`; what enters is noted in that."""
    try:
        with zipfile.ZipFile(file) as archive:
            told = json.loads(archive.read("runs.json"))
            new = [run for run in told if there.get(run["origin"], ("", -1))[1] < run["end_time"]]
            values = pd.read_csv(archive.open("metrics.csv"), dtype={"value": str}) if new else None
            by_run = dict(list(values.groupby("run"))) if new else {}
            about = dict(unit="run", desc=f"reading {file.name}", mininterval=1.0, disable=not new)
            for run in tqdm(new, **about):
                if run["origin"] in there:
                    store.client().delete_run(there[run["origin"]][0])
                if scale is not None:
                    run["tags"]["scale"] = scale
                id = _add(run, by_run.get(run["origin"], values.head(0)), archive)
                there[run["origin"]] = id, run["end_time"]
    except (zipfile.BadZipFile, KeyError, ValueError) as problem:
        raise ValueError(f"{file} is no archive of runs, or is damaged: {problem}") from problem
    return len(new), len(told) - len(new)


def _is_own(run: Any) -> bool:
    ended = run.info.status != "RUNNING" and run.info.end_time is not None
    return ended and run.data.tags.get("scale") != reading.REFERENCE


def _origin(run: Any) -> str:
    return run.data.tags.get(ORIGIN, run.info.run_id)


def _told(run: Any, experiment: Any) -> dict:
    """What describes a run, but for its metrics and files."""
    chips = [chip.dataset for chip in run.inputs.dataset_inputs]
    return {
        "origin": _origin(run),
        "name": run.info.run_name,
        "status": run.info.status,
        "start_time": run.info.start_time,
        "end_time": run.info.end_time,
        "experiment": experiment.name,
        "experiment_tags": experiment.tags,
        "params": run.data.params,
        "tags": run.data.tags,
        "datasets": [[data.name, data.digest, data.source_type, data.source] for data in chips],
    }


def _values(run: Any) -> Iterator[tuple]:
    for key in run.data.metrics:
        for point in store.client().get_metric_history(run.info.run_id, key):
            yield _origin(run), key, point.step, point.timestamp, point.value


def _pack(run: Any, archive: zipfile.ZipFile) -> None:
    client, id = store.client(), run.info.run_id
    if client.list_artifacts(id):
        with tempfile.TemporaryDirectory() as folder:
            client.download_artifacts(id, "", folder)
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file():
                    name = file.relative_to(folder).as_posix()
                    archive.write(file, f"artifacts/{_origin(run)}/{name}")


def _add(told: dict, values: pd.DataFrame, archive: zipfile.ZipFile) -> str:
    """A run as it was, and its id; it has no end before all of it is there."""
    client, place = store.client(), executions.experiment_id(told["experiment"])
    there = client.get_experiment(place).tags
    for name in told["experiment_tags"].keys() - there.keys():
        client.set_experiment_tag(place, name, told["experiment_tags"][name])
    tags = {**told["tags"], ORIGIN: told["origin"]}
    id = client.create_run(place, told["start_time"], tags, told["name"]).info.run_id
    client.log_batch(id, params=[Param(name, value) for name, value in told["params"].items()])
    for data in told["datasets"]:
        client.log_inputs(id, [DatasetInput(Dataset(*data))])
    points = [
        Metric(row.metric, float(row.value), row.timestamp, row.step) for row in values.itertuples()
    ]
    store.log_metrics(id, points)
    inside = f"artifacts/{told['origin']}/"
    names = [name for name in archive.namelist() if name.startswith(inside)]
    if any(".." in PurePosixPath(name).parts for name in names):
        raise ValueError(f"{told['name']} has a file outside its own folder")
    if names:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                file = Path(folder) / name.removeprefix(inside)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(name))
            client.log_artifacts(id, folder)
    client.set_terminated(id, told["status"], told["end_time"])
    return id


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Carry runs from one record to another.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--export", type=Path, metavar="FILE")
    what.add_argument("--import", type=Path, metavar="FILE", dest="read")
    given = parser.parse_args(arguments)
    try:
        if given.export:
            print(f"{given.export}: {write(given.export)} runs")
        else:
            entered, there = read(given.read)
            print(f"{given.read}: {entered} runs added, {there} were there already")
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
