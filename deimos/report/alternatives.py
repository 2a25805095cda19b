"""What one could do instead of the paper's DEIMOS: the kept runs of B2 and B3, as pages show them.

Compared as a family: a method differs from another where Holm's p is below .05.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from deimos import stats, tracking
from deimos.report import archived, figures
from deimos.report.archived import Outcomes
from deimos.report.paper import NAMES
from deimos.report.side_by_side import EXPERIMENTS
from deimos.report.verdicts import QUESTIONS
from deimos.studies import ablations, rivals
from deimos.studies.ablations import BASE

BEYOND = tracking.REFERENCES / "beyond"
VARIANTS = BEYOND / "what-matters.zip"
RIVALS = [  # a start each, the digits' in the paper's order, and of each the paper's start first
    file
    for task in EXPERIMENTS
    for file in sorted(BEYOND.glob(f"rivals-{task}*.zip"), key=lambda file: file.stem)
]
OTHER_BUDGETS = [file for file in RIVALS if "-from-" in file.stem]  # in `starts`, side by side
AS_STORED = {  # runs of the same processor with pixels from 0 to 255, to compare others with
    "MNIST 7 vs 9": VARIANTS,
    "MNIST 0-9": BEYOND / "rivals-mnist-0-to-9.zip",
}
REFERENCES = "random", "deimos"  # what each method is compared with


def variants_table() -> str:
    """B2's variants less the paper's DEIMOS, in Markdown: a row each, by question."""
    base = archived.rows(VARIANTS, "accuracy").query("method == @BASE")
    lines = [
        f"{start_of(VARIANTS)}, {length_of(VARIANTS)}. "
        f"Mean accuracy over the curve, {base.value.mean():.4f} with nothing changed:",
        "",
        "| changed | to | less that | Holm's p |",
        "|---|---|---|---|",
    ]
    table, last = _effects(VARIANTS).drop(BASE), ""
    for method in sorted(table.index, key=_place):
        question, answer = _asked(method)
        cells = table.loc[method, ["less deimos", "Holm's p (deimos)"]]
        shown = "" if question == last else question
        lines.append(f"| {shown} | {answer} | {' | '.join(cells)} |")
        last = question
    return "\n".join(lines)


def rivals_table() -> str:
    """B3's methods beside DEIMOS and random from the paper's start, in Markdown, best first.

    A table for each set of digits, and one for each with other pixels.
    """
    return "\n\n".join(_beside_rivals(file) for file in RIVALS if file not in OTHER_BUDGETS)


def drawn() -> dict[str, Figure]:
    """The same differences to DEIMOS drawn: a forest plot a table, by its archive's name."""
    variants = archived.rows(VARIANTS, "accuracy")
    plots = {VARIANTS.stem: figures.forest(variants, str(start_of(VARIANTS)))}
    for file in (file for file in RIVALS if file not in OTHER_BUDGETS):
        accuracy = archived.rows(file, "accuracy")
        rows = pd.concat([accuracy[accuracy.method == name] for name in _best_first(accuracy)])
        plots[file.stem] = figures.forest(rivals.as_answers(rows), str(start_of(file)))
    return plots


def outcomes() -> Outcomes:
    """Outcome and number of each sentence that a page may tell of B2 and B3."""
    known = {
        ("what matters", row.method): _after_holm(row)
        for row in paired(VARIANTS, BASE).itertuples()
    }
    known["what matters", "told apart"] = _told_apart(paired(VARIANTS, BASE))
    known["what matters", "no difference"] = _alike(paired(VARIANTS, BASE))
    for file in RIVALS:
        for reference in REFERENCES:
            pairs = paired(file, reference)
            start = f"{start_of(file)}, less {NAMES[reference]}"
            known["rivals", f"{start}: told apart"] = _told_apart(pairs)
            for row in pairs.itertuples():
                known["rivals", f"{start}: {NAMES[row.method]}"] = _after_holm(row)
        known["rivals", f"{start_of(file)}: no difference from DEIMOS"] = _alike(
            paired(file, "deimos")
        )
    return known | _on_another_processor() | _with_other_pixels()


def _with_other_pixels() -> Outcomes:
    """What pixels from 0 to 1 change: random labels' accuracy, and DEIMOS' lead over them."""
    known = {}
    for file in RIVALS:
        digits, _, changed = start_of(file)
        if changed != "pixels 0 to 1":
            continue
        after, before = _curves(file), _curves(AS_STORED[digits])
        lead, led = (curves["DEIMOS"] - curves["Random"] for curves in (after, before))
        known |= {
            ("pixels 0 to 1", f"{digits}: random's gain"): _less(after["Random"], before["Random"]),
            ("pixels 0 to 1", f"{digits}: DEIMOS' lead as stored"): _less(
                before["DEIMOS"], before["Random"]
            ),
            ("pixels 0 to 1", f"{digits}: what DEIMOS' lead gains"): _less(lead, led),
        }
    return known


def _on_another_processor() -> Outcomes:
    """What rounding alone changes: B2 and B3 ran some methods alike, on two processors."""
    (file,) = [file for file in RIVALS if start_of(file) == start_of(VARIANTS)]
    here, there = _curves(VARIANTS), _curves(file)
    both = here.columns.intersection(there.columns)
    apart = (here - there)[both].groupby("repeat").mean().abs().to_numpy()
    moved = f"{apart.mean():.2g}, at most {apart.max():.2g} ({apart.size} runs)"
    return {
        ("processors", "a run's mean accuracy"): ("moves" if apart.any() else "stays", moved),
        ("processors", "all runs, one less the other"): _less(
            here[both].mean(axis=1), there[both].mean(axis=1)
        ),
    }


def _curves(file: Path) -> pd.DataFrame:
    """Accuracies of an archive, a column a method as people call it, a row a fit of a repeat."""
    rows = archived.rows(file, "accuracy")
    fits = ["batch_size", "metric", "repeat", "n_acquired", "n_labelled"]
    named = rows.assign(method=rows.method.map(_called))
    return named.pivot(index=fits, columns="method", values="value")


def _less(curves: pd.Series, others: pd.Series) -> tuple[str, str]:
    """`archived.less` of curves of one archive, or what was made of them, and those of another."""
    sides = {"these": curves, "others": others}
    tables = [s.rename("value").reset_index().assign(method=name) for name, s in sides.items()]
    return archived.less(pd.concat(tables).assign(experiment=""), *sides)


def _beside_rivals(file: Path) -> str:
    lines = [
        f"{start_of(file)}, {length_of(file)}, mean accuracy over the curve:",
        "",
        "| method | less random's | Holm's p | less DEIMOS' | Holm's p | seconds |",
        "|---|---|---|---|---|---|",
    ]
    columns = [name for one in REFERENCES for name in (f"less {one}", f"Holm's p ({one})")]
    for method, row in _effects(file).iterrows():
        cells = NAMES[method], *row[columns], f"{row['seconds to acquire']:.2f}"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _effects(file: Path) -> pd.DataFrame:
    """The table of B3's notebook of an archive, by method, the best first."""
    methods = _best_first(archived.rows(file, "accuracy"))
    return rivals.effects("method", methods, archived.table(file)).set_index("method")


def _best_first(accuracy: pd.DataFrame) -> list[str]:
    return accuracy.groupby("method").value.mean().sort_values(ascending=False).index.tolist()


class Start(NamedTuple):
    """What an archive's runs began with; as text, for people."""

    digits: str
    n_labelled: int
    changed: str  # against the paper's settings, or nothing

    def __str__(self) -> str:
        changed = f", {self.changed}" if self.changed else ""
        return f"{self.digits} from {self.n_labelled} labels{changed}"


def start_of(file: Path) -> Start:
    measured = archived.table(file)
    (experiment,), n = measured.experiment.unique(), measured.n_labelled.min()
    task, _, start = experiment.removeprefix("rivals-").partition("-from-")
    task = "mnist-7-vs-9" if experiment == ablations.EXPERIMENT else task
    changed = start.partition("-")[2].replace("-", " ")
    return Start(EXPERIMENTS[task].partition(" (")[0], int(n), changed)


def length_of(file: Path) -> str:
    """How many repeats an archive's runs are, and how long, in words."""
    measured = archived.table(file)
    return f"{measured.repeat.nunique()} repeats to {measured.n_acquired.max()} acquired"


@cache
def paired(file: Path, reference: str) -> pd.DataFrame:
    return stats.paired_differences(archived.rows(file, "accuracy"), reference)


def _asked(method: str) -> tuple[str, str]:
    """A variant's question, "method" of a mere method, and its answer as people call it."""
    question, _, answer = method.rpartition(": ")
    return question or "method", NAMES.get(answer, answer)


def _place(method: str) -> int:
    """The place of a variant's question among all that are asked."""
    return [*QUESTIONS].index(_asked(method)[0])


def _called(method: str) -> str:
    """A method as people call it; a variant with its question, unless this is for the method."""
    question, answer = _asked(method)
    return answer if question == "method" else f"{question}: {answer}"


def _after_holm(row: Any) -> tuple[str, str]:
    """Whether a row of `paired` is "higher" or "lower" by Holm's p, or "undecided"; its number."""
    way = "higher" if row.effect > 0 else "lower"
    outcome = way if row.holm < 0.05 else "undecided"
    return outcome, archived.number(row.effect, row.low, row.high, row.repeats)


def _alike(pairs: pd.DataFrame) -> tuple[str, str]:
    """Whether "some" methods do as well as DEIMOS, or "none": within half of its lead over random.

    As for the paper's claims of no difference: the whole 95 % interval has to lie there. Without a
    lead, "no lead", there is no half of it.
    """
    (random,) = pairs[pairs.method.map(_called) == NAMES["random"]].itertuples()
    if not random.high < 0:
        return "no lead", f"Random {stats.with_interval(random.effect, random.low, random.high)}"
    margin = -random.effect / 2
    alike = pairs[(pairs.low > -margin) & (pairs.high < margin)]
    alike = sorted(alike.itertuples(), key=lambda row: (_place(row.method), -row.effect))
    within = f"within ±{margin:.2g}"
    if not alike:
        return "none", within
    return "some", f"{', '.join(_called(row.method) for row in alike)} ({within})"


def _told_apart(pairs: pd.DataFrame) -> tuple[str, str]:
    """Whether "some" methods of a family differ from its reference by Holm's p, or "none"."""
    apart = pairs[pairs.holm < 0.05].sort_values("effect", ascending=False)
    said = [f"{len(apart)} of {len(pairs)}"]
    for where, rows in (("above", apart[apart.effect > 0]), ("below", apart[apart.effect < 0])):
        if len(rows):
            said.append(f"{where} it {', '.join(rows.method.map(_called))}")
    return "some" if len(apart) else "none", "; ".join(said)
