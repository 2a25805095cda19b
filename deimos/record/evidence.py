"""Evidence: the measurements of an experiment with what they rest on, found in one look.

It comes from the record, or straight from archives such as those that the repository keeps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deimos.record import archive, queries, store
from deimos.record.queries import ANY_SCALE, LABELLED, REFERENCE
from deimos.record.results import table_of, tidy
from deimos.tasks.authors import published_curves

OTHER_DATA = "not the paper's data"
PAUSE = 5.0  # minutes without any iteration, from which nobody was at work


@dataclass(frozen=True)
class Origin:
    """Origin of the runs of one experiment: their data, code and machines."""

    scale: str
    source: str
    stand_in: bool  # whether the data are others than the paper's
    repeats: int
    finished: bool
    devices: tuple[str, ...]
    precisions: tuple[str, ...]  # of the convolutions' fit; none of a simulation
    torch: tuple[str, ...]
    python: tuple[str, ...]
    commits: tuple[str, ...]
    dirty: bool
    fingerprints: tuple[str, ...]
    nugget: Mapping[int, float]  # τ⁻¹ or τ_s⁻¹ in use, by batch size
    minutes: float  # all runs together, without the pauses between sittings

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons why these runs cannot decide a claim of the paper; none if they can."""
        small = (f"{self.scale} scale",) if self.scale in ("quick", "smoke") else ()
        return (*small, *((OTHER_DATA,) if self.stand_in else ()))

    @property
    def note(self) -> str:
        """The note in a figure's title: the scale, and where the data are from."""
        plain = {ANY_SCALE: [], REFERENCE: ["our kept runs"]}
        return ", ".join([*plain.get(self.scale, [f"{self.scale} scale"]), self.source])

    @property
    def machine(self) -> str:
        """Device, precision, torch, Python and commit, as a reader needs them."""
        parts = [
            " and ".join(self.devices),
            " and ".join(self.precisions),
            "torch " + " and ".join(version.partition("+")[0] for version in self.torch),
            "Python " + " and ".join(self.python),
            "commit " + " and ".join(commit[:7] for commit in self.commits),
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Evidence:
    """A tidy table with the origin of each experiment in it."""

    table: pd.DataFrame
    origins: Mapping[str, Origin]

    @property
    def published(self) -> pd.DataFrame:
        """The authors' curves, without those of experiments whose runs here are on other data."""
        other = [name for name, origin in self.origins.items() if origin.stand_in]
        curves = published_curves()
        return curves[~curves.experiment.isin(other)]


def evidence(
    scale: str | None = None,
    experiment: str | None = None,
    batch_size: int | None = None,
    **settings: str | int | float,
) -> Evidence:
    """Look up the evidence on an experiment, or on all; the runs are those that `table` shows."""
    runs = queries.chosen(experiment, scale, batch_size, settings)
    by_experiment: dict[str, list] = {}
    for run in runs:
        by_experiment.setdefault(queries.member(run)[0], []).append(run)
    origins = {
        name: origin(
            [
                {**run.data.tags, **run.data.params, "finished": queries.is_finished(run)}
                for run in found
            ],
            [time for run in found for time in _times(run)],
        )
        for name, found in sorted(by_experiment.items())
    }
    return Evidence(table_of(runs), origins)


def of_archives(files: Iterable[Path]) -> Evidence:
    """Read the evidence in archives, without a store; of a member they must have one run.

    Raises `ValueError` where two runs are of the same member.
    """
    tables, facts, times = [], {}, {}
    for file in files:
        values, runs = archive.contents(file)
        runs = {id: run for id, run in runs.items() if run["tags"].get("kind") == "run"}
        values = values[values.run.isin(runs)]
        tables.append(tidy(values, {id: run["tags"] for id, run in runs.items()}))
        labelled = dict(list(values[values.metric == LABELLED].groupby("run").timestamp))
        for id, run in runs.items():
            name = run["tags"]["experiment"]
            told = {**run["tags"], **run["params"], "finished": run["status"] == "FINISHED"}
            facts.setdefault(name, []).append(told)
            points = labelled[id].tolist() if id in labelled else []
            times.setdefault(name, []).extend([run["start_time"], *points])
    table = pd.concat(tables, ignore_index=True)
    keys = ["experiment", "batch_size", "method", "repeat", "n_acquired", "metric"]
    if table.duplicated(keys).any():
        member = table[table.duplicated(keys)].iloc[0]
        raise ValueError(
            f"two runs of {member.method}, repeat {member['repeat']} of {member.experiment}: "
            "one run a member is compared"
        )
    return Evidence(table, {name: origin(facts[name], times[name]) for name in sorted(facts)})


def origin(facts: list[dict], times: Iterable[int]) -> Origin:
    """The origin of runs, by the tags and parameters of each and when they measured (ms)."""

    def each(tag: str) -> tuple[str, ...]:
        return tuple(sorted({told[tag] for told in facts if tag in told}))

    nugget = {
        int(told["batch_size"]): float(told["noise"]) + float(told["smoothing"])
        for told in facts
        if "noise" in told and "smoothing" in told
    }
    steps = pd.Series(sorted(times)).diff() / 60_000
    return Origin(
        scale=each("scale")[0],
        source=" and ".join(each("source")),
        stand_in="True" in each("stand_in"),
        repeats=max(int(told["repeat"]) for told in facts),
        finished=all(told["finished"] for told in facts),
        devices=each("device"),
        precisions=each("precision"),
        torch=each("torch"),
        python=each("python"),
        commits=each("commit"),
        dirty="True" in each("dirty"),
        fingerprints=each("fingerprint"),
        nugget=nugget,
        minutes=float(steps[steps < PAUSE].sum()),
    )


def _times(run: object) -> list[int]:
    """Milliseconds at which a run started, and at which it measured."""
    points = store.client().get_metric_history(run.info.run_id, LABELLED)
    return [run.info.start_time, *(point.timestamp for point in points)]
