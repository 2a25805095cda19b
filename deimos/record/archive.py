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

from deimos.progress import progress
from deimos.record import executions, queries, run_rows, saved_views, store
from deimos.tasks.files import ROOT

REFERENCES = ROOT / "mlruns" / "reference"
ORIGIN = "origin"  # the tag of a copy: the id of the run it is of

VALUE_COLUMNS = ["run", "metric", "step", "timestamp", "value"]
NOTHING = pd.DataFrame([], columns=VALUE_COLUMNS)

There = dict[str, tuple[str, int]]  # origin → id and end of the store's run


def write_archive(file: Path, artifacts: bool = True, **tags: str) -> int:
    """Every run of the store that has ended, with these tags, as an archive; how many there were.

    A file that is there already is replaced only when the new one is whole. The runs of
    `mlruns/reference` are left out.
    """
    client = store.client()
    places = {found.experiment_id: found for found in client.search_experiments(max_results=50_000)}
    runs = [run for run in queries.search(list(places), **tags) if _is_own(run)]
    ids = {run.info.run_id for run in runs}
    used = {run.info.experiment_id for run in runs}
    described = {id: _of_these(ids, places[id]) for id in used}
    part = file.with_name(f"{file.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            told, values = [], []
            for run in progress(runs, unit="run", name=f"writing {file.name}"):
                place = places[run.info.experiment_id]
                told.append(_told(run, place.name, described[place.experiment_id]))
                values += _values(run)
                if artifacts:
                    _pack(run, archive)
            table = pd.DataFrame(values, columns=VALUE_COLUMNS)
            archive.writestr("runs.json", json.dumps(told, indent=1, ensure_ascii=False))
            archive.writestr("metrics.csv", table.to_csv(index=False))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return len(runs)


def read_archive(file: Path, scale: str | None = None) -> tuple[int, int]:
    """Add an archive's runs to the store, at `scale` if given: how many entered, how many it had.

    Raises `ValueError` if the file is no archive. What was read before an interruption is not read
    again.
    """
    return _read(file, scale, _there())


def contents(file: Path) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Read an archive without a store: measurements, and each run's description by origin."""
    with zipfile.ZipFile(file) as archive:
        runs = {run["origin"]: run for run in json.loads(archive.read("runs.json"))}
        return pd.read_csv(archive.open("metrics.csv")), runs


def read_references() -> int:
    """Our own runs, as the repository keeps them, into the store; how many were not there yet."""
    there = _there()
    files = sorted(REFERENCES.glob("*.zip"))
    return sum(_read(file, queries.REFERENCE, there)[0] for file in files)


def _there() -> There:
    return {_origin(run): (run.info.run_id, run.info.end_time or 0) for run in queries.search()}


def _read(file: Path, scale: str | None, there: There) -> tuple[int, int]:
    """`read_archive`, into a store of which it is known what is `there`; what enters is noted in
    that.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            told = json.loads(archive.read("runs.json"))
            new = [run for run in told if there.get(run["origin"], ("", -1))[1] < run["end_time"]]
            by_run = _by_run(archive) if new else {}
            experiments = {run["experiment"]: run["experiment_tags"] for run in told}
            places = {name: _place(name, tags) for name, tags in experiments.items()}
            for run in progress(new, unit="run", name=f"reading {file.name}") if new else ():
                if run["origin"] in there:
                    store.client().delete_run(there[run["origin"]][0])
                if scale is not None:
                    run["tags"]["scale"] = scale
                values = by_run.get(run["origin"], NOTHING)
                id = _add(run, values, places[run["experiment"]], archive)
                there[run["origin"]] = id, run["end_time"]
            for name, tags in experiments.items():
                for saved in (tags[tag] for tag in sorted(tags) if _is_view(tag)):
                    saved_views.carry(places[name].experiment_id, saved, scale)
    except (zipfile.BadZipFile, KeyError, ValueError) as problem:
        raise ValueError(f"{file} is no archive of runs, or is damaged: {problem}") from problem
    return len(new), len(told) - len(new)


def _by_run(archive: zipfile.ZipFile) -> dict[str, pd.DataFrame]:
    """Read the measurements of each run to the last bit, which not every pandas does."""
    values = pd.read_csv(archive.open("metrics.csv"), dtype={"value": str})
    values = values.assign(value=[float(value) for value in values.value])
    return dict(list(values.groupby("run")))


def _place(name: str, tags: dict[str, str]) -> Any:
    """An experiment, made if it is missing, with what describes it but for its views."""
    id = executions.experiment_id(name)
    there = store.client().get_experiment(id)
    for tag, value in tags.items():
        if tag not in there.tags and not _is_view(tag):
            store.set_experiment_tag(id, tag, value)
    return there


def _is_view(tag: str) -> bool:
    """True if an experiment's tag is a view: of runs of the store where it was saved."""
    return tag.startswith(saved_views.TAG)


def _is_own(run: Any) -> bool:
    ended = run.info.status != "RUNNING" and run.info.end_time is not None
    return ended and run.data.tags.get("scale") != queries.REFERENCE


def _origin(run: Any) -> str:
    return run.data.tags.get(ORIGIN, run.info.run_id)


def _of_these(ids: set[str], experiment: Any) -> dict[str, str]:
    """An experiment's tags, without the views that show none of these runs."""
    return {
        name: tag
        for name, tag in experiment.tags.items()
        if not _is_view(name)
        or ids & {run.info.run_id for run in saved_views.runs_of(experiment.experiment_id, tag)}
    }


def _told(run: Any, experiment: str, experiment_tags: dict[str, str]) -> dict:
    """Description of a run, without its metrics and files."""
    chips = [chip.dataset for chip in run.inputs.dataset_inputs]
    return {
        "origin": _origin(run),
        "name": run.info.run_name,
        "status": run.info.status,
        "start_time": run.info.start_time,
        "end_time": run.info.end_time,
        "experiment": experiment,
        "experiment_tags": experiment_tags,
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


def _add(told: dict, values: pd.DataFrame, place: Any, archive: zipfile.ZipFile) -> str:
    """A run as it was, and its id; it has no end before all of it is there."""
    inside = f"artifacts/{told['origin']}/"
    names = [name for name in archive.namelist() if name.startswith(inside)]
    if any(".." in PurePosixPath(name).parts for name in names):
        raise ValueError(f"{told['name']} has a file outside its own folder")
    told = told | {"tags": {**told["tags"], ORIGIN: told["origin"]}}
    if behind := run_rows.database():
        whole = {} if names == [] else {"status": "RUNNING", "end_time": None}
        where = place.experiment_id, place.artifact_location
        id = run_rows.add(behind, *where, told | whole, values)
        if not whole:
            return id
    else:
        id = _log(told, values, place.experiment_id)
    if names:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                file = Path(folder) / name.removeprefix(inside)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(name))
            store.client().log_artifacts(id, folder)
    store.client().set_terminated(id, told["status"], told["end_time"])
    return id


def _log(told: dict, values: pd.DataFrame, place: str) -> str:
    """A run by MLflow's own calls, as a server takes it; it still runs, as it were."""
    client = store.client()
    id = client.create_run(place, told["start_time"], told["tags"], told["name"]).info.run_id
    client.log_batch(id, params=[Param(name, value) for name, value in told["params"].items()])
    for data in told["datasets"]:
        store.log_inputs(id, [DatasetInput(Dataset(*data))])
    rows = values.itertuples()
    store.log_metrics(id, [Metric(row.metric, row.value, row.timestamp, row.step) for row in rows])
    return id


def archive_program(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Carry runs from one record to another.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--export", type=Path, metavar="FILE")
    what.add_argument("--import", type=Path, metavar="FILE", dest="read")
    given = parser.parse_args(arguments)
    try:
        if given.export:
            print(f"{given.export}: {write_archive(given.export)} runs")
        else:
            entered, there = read_archive(given.read)
            print(f"{given.read}: {entered} runs added, {there} were there already")
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(archive_program())
