"""A whole experiment, recorded: where its time goes, and what the record adds.

7 vs 9 as notebook 04 runs it, in a store of its own. How long an iteration takes at the paper's
settings is read from the runs that the repository keeps, and so is what of a GPU's time is left
when fits, evaluations and acquisitions are taken away: the record and the bars are in that.
"""

import os
import tempfile
import time
from collections.abc import Iterator

from benchmarks.measured import Row, fresh
from deimos import tracking
from deimos.execution import notebooks
from deimos.experiment import loop
from deimos.models import networks
from deimos.tasks import mnist

SCHEDULE = loop.Schedule(
    batch_size=25, n_initial=10, n_acquired=75, n_candidates=2_500,
    fit=loop.Fit(60, minibatch=128, decay=0.0005), noise=8.37e-5, n_masks=50, n_passes=100,
)  # fmt: skip
PARTS = ("fit", "evaluate", "acquire")


def shares(full: bool) -> dict[str, float]:
    """Seconds of each part, over all iterations, of the record and bars, and on the clock."""
    folder = tempfile.mkdtemp()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    task = mnist.load_7_vs_9("quick")
    schedule = SCHEDULE.changed(n_acquired=500, epochs=300) if full else SCHEDULE
    methods = ["deimos", "random", "max_entropy", *(["batchbald", "k_center"] if full else [])]
    place = tracking.experiment("04-mnist-7-vs-9", "Where does the time go?", "quick")
    took = dict.fromkeys((*PARTS, "record"), 0.0)
    began = time.perf_counter()
    iterations = 0
    with tracking.fleet(place, task, "mnist_7_vs_9", methods, 2, schedule) as members:
        entered = time.perf_counter()
        own_entered = time.thread_time()
        for iteration in loop.active_learning(task, networks.mnist_7_vs_9, members):
            logged, own_logged = time.perf_counter(), time.thread_time()
            tracking.log(iteration)
            iterations += 1
            took["record"] += time.perf_counter() - logged
            own_entered += time.thread_time() - own_logged
            for part in PARTS:
                took[part] += iteration.metrics[f"time/{part}_seconds"]
        # The bar and the hand-over: what else this thread did while others computed.
        took["record"] += time.thread_time() - own_entered
        left = time.perf_counter()
    took["record"] += time.perf_counter() - left + entered - began
    return took | {"clock": time.perf_counter() - began, "iterations": float(iterations)}


def kept_iteration() -> float:
    """Mean seconds of an iteration of 7 vs 9 on CPUs, at the paper's settings, as kept."""
    table, _ = tracking.contents(tracking.REFERENCES / "mnist-7-vs-9-on-cpus.zip")
    times = table[table.metric.str.startswith("time/")]
    return times.value.sum() / (times.metric == "time/fit_seconds").sum()


def kept_rests() -> Iterator[tuple[str, float, float]]:
    """Each fleet kept that a GPU fitted in step: seconds of an iteration, and the share left over.

    Members share a fit's time and are evaluated and acquire side by side, so the longest counts.
    A fleet whose members ran at different times is left out.
    """
    for file in sorted(tracking.REFERENCES.glob("*.zip")):
        table, runs = tracking.contents(file)
        on_gpu = [name for name, run in runs.items() if not run["tags"]["device"].startswith("CPU")]
        table = table[table.run.isin(on_gpu)]
        sizes = table.run.map({name: run["params"]["batch_size"] for name, run in runs.items()})
        for b, rows in table.groupby(sizes):
            times = rows[rows.metric.str.startswith("time/")]
            times = times.pivot(index=["step", "run"], columns="metric", values="value")
            fit = times["time/fit_seconds"].groupby("step").sum()
            after = times["time/evaluate_seconds"] + times["time/acquire_seconds"]
            ends = rows[rows.metric == "n_labelled"].groupby("step").timestamp
            clock = ends.max().diff() / 1000
            if (ends.max() - ends.min()).median() > 1000 * clock.median():
                continue
            spent = (fit + after.groupby("step").max())[clock < 60 * tracking.PAUSE]
            clock = clock[spent.index]
            yield f"{file.stem}, b = {b}", clock.mean(), 1 - spent.sum() / clock.sum()


def rows(full: bool) -> Iterator[Row]:
    with fresh(notebooks.KERNEL_ENVIRONMENT) as call:
        took = call(shares, full)
    n, clock = took.pop("iterations"), took.pop("clock")
    each = {name: total / n for name, total in took.items()}
    whole = sum(each.values())
    name = f"7 vs 9, b = 25, {'300' if full else '60'} epochs, an iteration of {n:.0f}"
    for part, spent in each.items():
        note = f"{spent / whole:.1%} of the work"
        if part == "record":
            note += f", {spent * n / clock:.1%} of the clock"
            note += (
                f"; {spent / (spent + kept_iteration()):.2%} of the work of the kept runs on CPUs"
            )
        yield Row(f"{name}: {part}", "", spent, note=note)
    yield Row(f"{name}: by the clock", "", clock / n, note="two or more at once")
    for name, seconds, rest in kept_rests():
        note = f"{rest:.1%} of it neither fit, evaluation nor acquisition"
        yield Row(f"kept runs on a GPU, {name}: an iteration by the clock", "", seconds, note=note)
