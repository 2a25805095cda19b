"""Rivals: DEIMOS beside what one would use today, from several starts (B3).

Every comparison is an experiment of its own in the record: these are none of the paper's runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from deimos import stats
from deimos.experiment import settings_check
from deimos.experiment.runs import Schedule
from deimos.tasks.mnist import rescaled
from deimos.tasks.task import Task

RIVALS = {
    "epig": "EPIG, DEIMOS' cousin in information (Bickford Smith et al., 2023)",
    "badge": "BADGE, diverse gradients of the last layer (Ash et al., 2020)",
    "typiclust": "TypiClust, the typical point of each new cluster (Hacohen et al., 2022)",
    "prob_cover": "ProbCover, balls that cover most (Yehuda et al., 2022)",
    "core_set": "CoreSet, the farthest point again and again (Sener & Savarese, 2018)",
    "max_herding": "MaxHerding, coverage by a smooth kernel (Bae et al., 2024)",
    "margin": "Margin, the smallest lead of the likeliest class (Scheffer et al., 2001)",
    "power_bald": "Power BALD, at random by their information (Kirsch et al., 2023)",
    "deimos_forward_backward": "Forward and backward, as BAIT does it (Ash et al., 2021)",
}


@dataclass(frozen=True)
class RivalRuns:
    """Methods from one start: each is a run a repeat, under one schedule."""

    title: str
    task: Task
    net: str
    methods: tuple[str, ...]
    schedule: Schedule


def methods() -> pd.DataFrame:
    """The rivals, a row each."""
    return pd.DataFrame(RIVALS.items(), columns=["method", "what it asks for"])


def comparisons(
    task: Task,
    net: str,
    base: Schedule,
    methods: Sequence[str],
    budgets: Sequence[int],
    at_budgets: Sequence[str],
    brightest: Sequence[int | float] = (),
) -> list[RivalRuns]:
    """All methods from the base's start, then some of them from other budgets or pixels.

    A budget that the classes do not divide is left out, and so is the base's own; `brightest` are
    other largest values of a pixel than 255. Raises ValueError, before anything is run, for all
    that cannot be run.
    """
    own = base.n_initial
    others = [n for n in budgets if n != own and n % task.n_classes == 0]
    starts = [(task, own, methods, ""), *((task, n, at_budgets, "") for n in others)]
    for most in brightest:
        starts.append((rescaled(task, most), own, at_budgets, f"pixels 0 to {most:g}"))
    found = []
    for digits, n, chosen, pixels in starts:
        title = f"{task.name} from {n} labels" + (f", {pixels}" if pixels else "")
        name = "-".join(["rivals", task.name, "from", str(n), *pixels.split()])
        if chosen:
            named = replace(digits, name=name)
            found.append(RivalRuns(title, named, net, tuple(chosen), replace(base, n_initial=n)))
    wrong = [settings_check.what_is_wrong(one.task, one.schedule, one.methods) for one in found]
    if said := sum(wrong, []):
        raise ValueError("; ".join(dict.fromkeys(said)))
    return found


def effects(title: str, methods: Sequence[str], table: pd.DataFrame) -> pd.DataFrame:
    """A row a method: its mean accuracy less DEIMOS' and less random's, and seconds to acquire.

    With 95 % intervals by Student's t over paired run means, and Holm's p within each column.
    """
    accuracy = table[table.metric == "accuracy"]
    seconds = table[table.metric == "acquire_seconds"].groupby("method").value.median()
    columns = {"seconds to acquire": seconds.reindex(methods).round(2)}
    for reference in ("deimos", "random"):
        if reference in methods:
            pairs = stats.paired_differences(accuracy, reference).set_index("method")
            columns[f"less {reference}"] = pairs.apply(
                lambda one: stats.with_interval(one.effect, one.low, one.high, "+.4f"), axis=1
            )
            columns[f"Holm's p ({reference})"] = pairs.holm.map("{:.2g}".format)
    rows = pd.DataFrame(columns, index=pd.Index(methods, name=title))
    return rows.fillna("").reset_index()


def as_answers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with methods called as answers to the question "method", DEIMOS as it was."""
    named = "method: " + table.method
    return table.assign(method=named.where(table.method != "deimos", table.method))


def together(judged: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All comparisons' verdicts as one table, the comparison first."""
    table = pd.concat(judged, ignore_index=True)
    return table[["comparison", *(name for name in table if name != "comparison")]]
