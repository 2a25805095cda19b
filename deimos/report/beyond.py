"""What lies beyond the paper's claims, as the kept runs tell it: tables and numbers of pages."""

from functools import cache
from pathlib import Path

import pandas as pd

from deimos import stats, tracking
from deimos.studies.targets import TARGETS

MINIBATCH = 128  # of every fit on digits (App. D)
DIPS = sorted((tracking.REFERENCES / "half-precision").glob("dips-*.zip"))  # by labels
SPLICING = tracking.REFERENCES / "splicing.zip"
CENTRED = tracking.REFERENCES / "beyond" / "centred-targets.zip"

Outcomes = dict[tuple[str, str], tuple[str, str]]  # experiment and sentence → outcome and number


def dips_table() -> str:
    """How accuracy changes when an epoch's last, smaller minibatch is dropped, or merged.

    A row a number of labels, in Markdown: each fit has the same labels and the same start.
    """
    lines = [
        "| labels | accuracy, last minibatch kept | dropped, less that | merged, less that |",
        "|---|---|---|---|",
    ]
    for n, rows in _fits():
        kept = rows[rows.method == "deimos"].value.mean()
        each = (less_deimos(rows, f"remainder: {name}")[1] for name in ("dropped", "merged"))
        whole, left = divmod(n, MINIBATCH)
        lines.append(f"| {n} = {whole} × {MINIBATCH} + {left} | {kept:.4f} | {' | '.join(each)} |")
    return "\n".join(lines)


def targets_table() -> str:
    """What B4's methods asked for on each scale of the same labels, and what came of it."""
    lines = [
        "| target | labels | label DEIMOS asks for | random's | MSE of random, less DEIMOS' |",
        "|---|---|---|---|---|",
    ]
    for target, rows in _by_target():
        asked = rows[rows.metric == "mean_label"].groupby("method").value.mean()
        error = less_deimos(rows[rows.metric == "mse"], "random")[1]
        means = f"{asked['deimos']:.2f} | {asked['random']:.2f}"
        lines.append(f"| {target} | to {rows.n_acquired.max()} | {means} | {error} |")
    return "\n".join(lines)


def outcomes() -> Outcomes:
    """Outcome and number of each sentence beyond the claims that a page may tell."""
    known = {
        ("dips", f"{n} labels, {name}"): less_deimos(rows, f"remainder: {name}")
        for n, rows in _fits()
        for name in ("dropped", "merged")
    }
    for target, rows in _by_target():
        errors = rows[rows.metric == "mse"]
        known["targets", f"{target}, MSE of random"] = less_deimos(errors, "random")
    labels = _rows(SPLICING, "mean_label")
    for method in ("random", "max_variance"):
        known["splicing", f"labels asked for, {method}"] = less_deimos(labels, method)
    return known


def less_deimos(rows: pd.DataFrame, method: str) -> tuple[str, str]:
    """Whether a method is "higher" than DEIMOS or "lower", or "undecided", and by how much.

    By the 95 % interval of Student's t over paired run means.
    """
    test = stats.run_level_test(rows, method)
    low, high = test.interval
    outcome = "higher" if low > 0 else "lower" if high < 0 else "undecided"
    effect = stats.with_interval(test.effect, low, high)
    return outcome, f"{effect} ({len(test.differences)} repeats)"


def _fits() -> list[tuple[int, pd.DataFrame]]:
    """The accuracies of each run's last fit, by its number of labels."""
    tables = [_rows(file, "accuracy") for file in DIPS]
    last = [table[table.n_labelled == table.n_labelled.max()] for table in tables]
    return [(int(rows.n_labelled.iloc[0]), rows) for rows in last]


def _by_target() -> list[tuple[str, pd.DataFrame]]:
    """The measurements on each scale of the labels, as far as all runs of that scale go."""
    table, targets = _table(CENTRED), []
    for target in TARGETS:
        rows = table[table.experiment.str.endswith(f": {target}")]
        if len(rows):
            end = rows.groupby(["method", "repeat"]).n_acquired.max().min()
            targets.append((target, rows[rows.n_acquired <= end]))
    return targets


def _rows(file: Path, metric: str) -> pd.DataFrame:
    table = _table(file)
    return table[table.metric == metric]


@cache
def _table(file: Path) -> pd.DataFrame:
    """An archive's measurements, read once for the tables and the sentences; not to be changed."""
    return tracking.of_archives([file]).table
