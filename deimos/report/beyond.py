"""What the kept runs tell beside and beyond the paper's claims: tables and numbers of pages."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from deimos import k_center, stats, tracking
from deimos.report import figures, paper, summaries, verdicts
from deimos.report.findings import between, subject
from deimos.report.side_by_side import EXPERIMENTS
from deimos.studies import rivals
from deimos.studies.targets import TARGETS
from deimos.tasks.authors import published_curves

MINIBATCH = 128  # of every fit on digits (App. D)
DIGITS = 60_000  # that may be labelled, of 0-9
DIPS = sorted((tracking.REFERENCES / "half-precision").glob("dips-*.zip"))  # by labels
FACES = tracking.REFERENCES / "face-age.zip"
SPLICING = tracking.REFERENCES / "splicing.zip"
CENTRED = tracking.REFERENCES / "beyond" / "centred-targets.zip"
SEVEN_OR_NINE = tracking.REFERENCES / "mnist-7-vs-9.zip"
TEN_CLASSES = {  # by J
    50: tracking.REFERENCES / "mnist-0-to-9.zip",
    250: tracking.REFERENCES / "250-masks" / "mnist-0-to-9.zip",
}
RIVALS = sorted((tracking.REFERENCES / "beyond").glob("rivals-*.zip"))  # a start each

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
        each = (less(rows, f"remainder: {name}")[1] for name in ("dropped", "merged"))
        whole, left = divmod(n, MINIBATCH)
        lines.append(f"| {n} = {whole} × {MINIBATCH} + {left} | {kept:.4f} | {' | '.join(each)} |")
    return "\n".join(lines)


def targets_table() -> str:
    """What B4's methods asked for on each scale of the same labels, and what came of it."""
    lines = [
        "| target | labels | label DEIMOS asks for | random's, less that | MSE, the same |",
        "|---|---|---|---|---|",
    ]
    for target, rows in _by_target():
        labels = rows[rows.metric == "mean_label"]
        mean = f"{labels[labels.method == 'deimos'].value.mean():.2f}"
        both = (less(rows[rows.metric == metric], "random")[1] for metric in ("mean_label", "mse"))
        lines.append(f"| {target} | to {rows.n_acquired.max()} | {mean} | {' | '.join(both)} |")
    return "\n".join(lines)


def rivals_table() -> str:
    """B3's methods beside DEIMOS and random: a table a start, the best method first."""
    return "\n\n".join(_beside_rivals(file) for file in RIVALS)


def _beside_rivals(file: Path) -> str:
    accuracy = _rows(file, "accuracy")
    methods = _best_first(accuracy)
    table = rivals.effects("method", methods, _table(file)).set_index("method")
    lines = [
        f"{_start(file)}, {accuracy.repeat.nunique()} repeats to {accuracy.n_acquired.max()} "
        "acquired, mean accuracy over the curve:",
        "",
        "| method | less random's | Holm's p | less DEIMOS' | Holm's p | seconds |",
        "|---|---|---|---|---|---|",
    ]
    columns = ["less random", "Holm's p (random)", "less deimos", "Holm's p (deimos)"]
    for method, row in table.iterrows():
        cells = *row[columns], f"{row['seconds to acquire']:.2f}"
        lines.append(f"| {_name(method)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rivals_figures() -> dict[str, Figure]:
    """The same differences to DEIMOS drawn: a forest plot a start, by its archive's name."""
    drawn = {}
    for file in RIVALS:
        accuracy = _rows(file, "accuracy")
        rows = pd.concat([accuracy[accuracy.method == name] for name in _best_first(accuracy)])
        names = {name: _name(name) for name in rows.method.unique() if name != "deimos"}
        named = rivals.as_answers(rows.assign(method=rows.method.replace(names)))
        drawn[file.stem] = figures.forest(named, _start(file))
    return drawn


def _best_first(accuracy: pd.DataFrame) -> list[str]:
    return accuracy.groupby("method").value.mean().sort_values(ascending=False).index.tolist()


def _name(method: str) -> str:
    """A method as people call it: of a rival the first words of its description."""
    described = rivals.RIVALS.get(method) or paper.METHODS[method]
    return described.partition(",")[0]


def _start(file: Path) -> str:
    """What an archive of B3 holds, for people: the digits, and the labels at the start."""
    (experiment,) = _table(file).experiment.unique()
    task, _, n = experiment.removeprefix("rivals-").rpartition("-from-")
    return f"{EXPERIMENTS[task].partition(' (')[0]} from {n} labels"


def outcomes() -> Outcomes:
    """Outcome and number of each sentence that a page may tell, and that no claim has."""
    known = {
        ("dips", f"{n} labels, {name}"): less(rows, f"remainder: {name}")
        for n, rows in _fits()
        for name in ("dropped", "merged")
    }
    for target, rows in _by_target():
        for metric, what in (("mse", "MSE of random"), ("mean_label", "labels random asks for")):
            known["targets", f"{target}, {what}"] = less(rows[rows.metric == metric], "random")
    for J, file in TEN_CLASSES.items():
        known["masks", f"variance that a batch takes away, J = {J}"] = _variance_taken(file)
    for name, file in {"0-9": TEN_CLASSES[50], "7 vs 9": SEVEN_OR_NINE}.items():
        last = _rows(file, "hardness_of_last_fifth").query("batch_size == 25")
        for method in ("batchbald", "deimos"):
            known["last picks", f"{name}, hardness, {method} less random"] = less(
                last, method, "random"
            )
        known["last picks", f"{name}, batchbald is done"] = _used_up(file)
    known["faces", "our errors, less the authors'"] = _face_errors()
    known["splicing", "the paper's test of the authors' curves"] = _papers_test()
    known["k-center", "the longest search of a step"] = "limit", f"{k_center.SECONDS:.0f} seconds"
    for file in RIVALS:
        for reference in ("deimos", "random"):
            pairs = stats.paired_differences(_rows(file, "accuracy"), reference)
            start = f"{_start(file)}, less {_name(reference)}"
            known["rivals", f"{start}: told apart"] = _told_apart(pairs)
            for row in pairs.itertuples():
                known["rivals", f"{start}: {_name(row.method)}"] = _after_holm(row)
    labels = _rows(SPLICING, "mean_label")
    for method in ("random", "max_variance"):
        known["splicing", f"labels asked for, {method}"] = less(labels, method)
    return known


def less(rows: pd.DataFrame, method: str, reference: str = "deimos") -> tuple[str, str]:
    """Whether a method is "higher" than another or "lower", or "undecided", and by how much.

    By the 95 % interval of Student's t over paired run means.
    """
    test = stats.run_level_test(rows, method, reference)
    low, high = test.interval
    outcome = "higher" if low > 0 else "lower" if high < 0 else "undecided"
    return outcome, _number(test.effect, low, high, len(test.differences))


def _number(effect: float, low: float, high: float, repeats: int) -> str:
    return f"{stats.with_interval(effect, low, high)} ({repeats} repeats)"


def _variance_taken(file: Path) -> tuple[str, str]:
    """Whether DEIMOS' batches take away "all" of the sample's variance, or "a part", and how much.

    The mean over batches of 25. A sample has labelled points beside its candidates, as chance has
    it: so many as the pool's share of all points makes likely.
    """
    table = _table(file).query("method == 'deimos' and batch_size == 25")
    metrics = ["expected_improvement", "mean_variance"]
    points = table[table.metric.isin(metrics)].pivot(
        index=["repeat", "n_labelled"], columns="metric", values="value"
    )
    n_labelled = points.index.get_level_values("n_labelled")
    outputs, candidates = 10, 2_000
    sample = candidates * DIGITS / (DIGITS - n_labelled)
    share = (points.expected_improvement / (points.mean_variance * outputs * sample)).mean()
    return "all" if share > 0.99 else "a part", f"{share:.1%}"


def _used_up(file: Path) -> tuple[str, str]:
    """Whether J masks have no more to tell "early" in BatchBALD's batches, or "late", and when.

    That is the pick which brings a batch within 1 % of log₂ J bits, as the mean over batches of 25
    that get there.
    """
    table = _rows(file, "saturated_at").query("method == 'batchbald' and batch_size == 25")
    pick = table.value.mean()
    return "early" if pick < 25 / 2 else "late", f"{pick:.1f} picks"


def _papers_test() -> tuple[str, str]:
    """App. C's p of maximum variance on the splicing data, from the curves of the authors."""
    claim = paper.SPLICING[0]
    curves = between(claim, subject(claim, published_curves()))
    test = stats.likelihood_ratio(curves, *claim.methods)
    outcome = "higher" if test.p_value < 0.05 and test.effect > 0 else "undecided"
    return outcome, f"p = {verdicts.in_digits(test.log10_p)}"


def _face_errors() -> tuple[str, str]:
    """Whether our errors are "higher" than the authors' in every curve, and from what to what."""
    less = summaries.gaps(_rows(FACES, "rmse"), published_curves()).difference
    outcome = "higher" if (less > 0).all() else "undecided"
    return outcome, f"{less.min():.1f} to {less.max():.1f} years"


def _after_holm(row: Any) -> tuple[str, str]:
    """The same of a row of `paired_differences`, one of a family: Holm's p decides."""
    way = "higher" if row.effect > 0 else "lower"
    outcome = way if row.holm < 0.05 else "undecided"
    return outcome, _number(row.effect, row.low, row.high, row.repeats)


def _told_apart(pairs: pd.DataFrame) -> tuple[str, str]:
    """Whether "some" methods of a family differ from its reference by Holm's p, or "none"."""
    names = [_name(row.method) for row in pairs.itertuples() if row.holm < 0.05]
    number = f"{len(names)} of {len(pairs)}"
    return ("some", f"{number}, {', '.join(names)}") if names else ("none", number)


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
