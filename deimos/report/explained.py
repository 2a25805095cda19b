"""What explains the curves: tables and numbers of the results page, from the kept runs."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from deimos import k_center, stats, tracking
from deimos.report import archived, paper, summaries, verdicts
from deimos.report.archived import Outcomes, less
from deimos.report.findings import between, subject
from deimos.studies.targets import TARGETS
from deimos.tasks.authors import published_curves

MINIBATCH = 128  # of every fit on digits (App. D)
DIGITS = 60_000  # that may be labelled, of 0-9
DIPS = sorted((tracking.REFERENCES / "half-precision").glob("dips-*.zip"))  # by labels
FACES = tracking.REFERENCES / "face-age.zip"
SPLICING = tracking.REFERENCES / "splicing.zip"
CENTRED = tracking.REFERENCES / "beyond" / "centred-targets.zip"
NOISIER = tracking.REFERENCES / "beyond" / "centred-targets-noise.zip"  # of DEIMOS alone
BY_APP_E = "y, τ⁻¹ by App. E"
SEVEN_OR_NINE = tracking.REFERENCES / "mnist-7-vs-9.zip"
TEN_CLASSES = {  # by J
    50: tracking.REFERENCES / "mnist-0-to-9.zip",
    250: tracking.REFERENCES / "250-masks" / "mnist-0-to-9.zip",
}
BATCHBALD = {  # by J: its estimators beside DEIMOS on ten classes; with J = 50 random labels, too
    50: tracking.REFERENCES / "half-precision" / "mnist-0-to-9-first-250.zip",
    250: tracking.REFERENCES / "250-masks" / "mnist-0-to-9-batchbald.zip",
}
ESTIMATED = {  # what they are compared by: a metric, and the method that theirs is compared with
    "accuracy, less DEIMOS'": ("accuracy", "deimos"),
    "batch diversity, less DEIMOS'": ("diversity", "deimos"),
    "hardness of the last five picks, less random's": ("hardness_of_last_fifth", "random"),
}


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


def batchbald_table() -> str:
    """BatchBALD on ten classes by its estimators, in Markdown: a row each and J."""
    lines = [
        f"| J | estimator | {' | '.join(ESTIMATED)} |",
        "|---|---|" + "---|" * len(ESTIMATED),
    ]
    for J, estimator, told in _estimators():
        cells = (told[what][1] if what in told else "" for what in ESTIMATED)
        lines.append(f"| {J} | {estimator} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
        last = archived.rows(file, "hardness_of_last_fifth").query("batch_size == 25")
        for method in ("batchbald", "deimos"):
            known["last picks", f"{name}, hardness, {method} less random"] = less(
                last, method, "random"
            )
        known["last picks", f"{name}, batchbald is done"] = _used_up(file)
    for J, estimator, told in _estimators():
        known |= {("batchbald", f"J = {J}, {estimator}: {what}"): told[what] for what in told}
    known["faces", "our errors, less the authors'"] = _face_errors()
    known["splicing", "the paper's test of the authors' curves"] = _papers_test()
    known["k-center", "the longest search of a step"] = "limit", f"{k_center.SECONDS:.0f} seconds"
    labels = archived.rows(SPLICING, "mean_label")
    for method in ("random", "max_variance"):
        known["splicing", f"labels asked for, {method}"] = less(labels, method)
    return known


def _estimators() -> Iterator[tuple[int, str, dict[str, tuple[str, str]]]]:
    """J, BatchBALD's estimator as people call it, and how it does by each of `ESTIMATED`."""
    for J, file in BATCHBALD.items():
        methods = set(archived.table(file).method)
        for method in sorted(methods & {"batchbald", "batchbald_authors"}):
            told = {
                what: less(archived.rows(file, metric), method, reference)
                for what, (metric, reference) in ESTIMATED.items()
                if reference in methods
            }
            yield J, paper.METHODS[method], told


def _variance_taken(file: Path) -> tuple[str, str]:
    """Whether DEIMOS' batches take away "all" of the sample's variance, or "a part", and how much.

    The mean over batches of 25. A sample has labelled points beside its candidates, as chance has
    it: so many as the pool's share of all points makes likely.
    """
    table = archived.table(file).query("method == 'deimos' and batch_size == 25")
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
    table = archived.rows(file, "saturated_at").query("method == 'batchbald' and batch_size == 25")
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
    less = summaries.gaps(archived.rows(FACES, "rmse"), published_curves()).difference
    outcome = "higher" if (less > 0).all() else "undecided"
    return outcome, f"{less.min():.1f} to {less.max():.1f} years"


def _fits() -> list[tuple[int, pd.DataFrame]]:
    """The accuracies of each run's last fit, by its number of labels."""
    tables = [archived.rows(file, "accuracy") for file in DIPS]
    last = [table[table.n_labelled == table.n_labelled.max()] for table in tables]
    return [(int(rows.n_labelled.iloc[0]), rows) for rows in last]


def _by_target() -> list[tuple[str, pd.DataFrame]]:
    """The measurements on each scale of the labels; then with the noise that App. E asks for.

    Random labels know no noise: there the same runs stand beside DEIMOS.
    """
    table = archived.table(CENTRED)
    of = {target: table[table.experiment.str.endswith(f": {target}")] for target in TARGETS}
    random = of["y"][of["y"].method == "random"]
    return [*of.items(), (BY_APP_E, pd.concat([archived.table(NOISIER), random]))]
