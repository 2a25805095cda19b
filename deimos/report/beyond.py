"""What lies beyond the paper's claims, as the kept runs tell it: tables and numbers of pages."""

from pathlib import Path

import pandas as pd

from deimos import stats, tracking

MINIBATCH = 128  # of every fit on digits (App. D)
DIPS = sorted((tracking.REFERENCES / "half-precision").glob("dips-*.zip"))  # by labels
SPLICING = tracking.REFERENCES / "splicing.zip"

Told = dict[tuple[str, str], tuple[str, str]]  # experiment and sentence → outcome and number


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
        each = (told_of(rows, f"remainder: {name}")[1] for name in ("dropped", "merged"))
        whole, left = divmod(n, MINIBATCH)
        lines.append(f"| {n} = {whole} × {MINIBATCH} + {left} | {kept:.4f} | {' | '.join(each)} |")
    return "\n".join(lines)


def told() -> Told:
    """Outcome and number of each sentence beyond the claims that a page may tell."""
    found = {
        ("dips", f"{n} labels, {name}"): told_of(rows, f"remainder: {name}")
        for n, rows in _fits()
        for name in ("dropped", "merged")
    }
    labels = _rows(SPLICING, "mean_label")
    for method in ("random", "max_variance"):
        found["splicing", f"labels asked for, {method}"] = told_of(labels, method)
    return found


def told_of(rows: pd.DataFrame, method: str) -> tuple[str, str]:
    """Whether a method is "higher" than DEIMOS or "lower", or "undecided", and by how much.

    By the 95 % interval of Student's t over paired run means.
    """
    test = stats.run_level_test(rows, method)
    low, high = test.interval
    way = "higher" if low > 0 else "lower" if high < 0 else "undecided"
    return way, f"{test.effect:+.2g} [{low:+.2g}, {high:+.2g}] ({len(test.differences)} repeats)"


def _fits() -> list[tuple[int, pd.DataFrame]]:
    """The accuracies of each run's last fit, by its number of labels."""
    tables = [_rows(file, "accuracy") for file in DIPS]
    last = [table[table.n_labelled == table.n_labelled.max()] for table in tables]
    return [(int(rows.n_labelled.iloc[0]), rows) for rows in last]


def _rows(file: Path, metric: str) -> pd.DataFrame:
    table = tracking.of_archives([file]).table
    return table[table.metric == metric]
