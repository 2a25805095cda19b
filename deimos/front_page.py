"""The page that `make ui` opens on: figures, what the paper claims of each, the runs behind it.

Plain HTML and CSS from one template, in which every text is escaped. Nothing here reads the record:
`browse` does, and serves the page.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import jinja2
import pandas as pd

TEMPLATE = Path(__file__).with_suffix(".html")
OUTCOMES = {"holds": "supported", "does not hold": "contradicted", "cannot tell": "undecided"}


@dataclass(frozen=True)
class Card:
    """One figure on the page: its picture, its claims and their outcomes, what is behind it."""

    name: str
    label: str
    title: str
    picture: str  # addresses, as are the next two
    view: str
    notebook_page: str
    notebook: str
    claims: pd.DataFrame  # as `verdicts.verdicts` gives them
    runs: dict[str, dict[str, str]]  # method → repeat → address

    @property
    def n_runs(self) -> int:
        """The number of runs behind the figure."""
        return sum(map(len, self.runs.values()))

    @property
    def outcomes(self) -> list[dict[str, str]]:
        """A row a claim: claim, where, outcome, and our numbers in words."""
        rows = with_outcomes(self.claims).itertuples()
        return [
            {
                "claim": row.claim,
                "where": row.where,
                "outcome": row.outcome,
                "numbers": _numbers(row),
            }
            for row in rows
        ]


@dataclass(frozen=True)
class Section:
    """All figures of the runs at one scale, and a sentence on how all claims came out."""

    scale: str
    title: str
    summary: str
    cards: Sequence[Card]


def page(sections: Sequence[Section], experiments: dict[str, str], colours: dict[str, str]) -> str:
    """Write the whole page as HTML.

    `experiments` are names and addresses in MLflow, `colours` those of its groups and runs.
    """
    rules = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, **rules)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(sections=sections, experiments=experiments, colours=colours)


def with_outcomes(claims: pd.DataFrame) -> pd.DataFrame:
    """Verdicts with a column `outcome`, also for a table that says it in its sentences alone."""
    if "outcome" in claims:
        return claims
    outcomes = [
        "not tested" if re.search("no runs|not the paper's data", verdict) else OUTCOMES[words]
        for verdict in claims.verdict
        for words in [verdict.partition(" (")[0]]
    ]
    return claims.assign(outcome=pd.Series(outcomes, claims.index, dtype=object))


def summary(claims: pd.DataFrame) -> str:
    """Count the claims by outcome, in a sentence."""
    counts = with_outcomes(claims).outcome.value_counts()
    parts = [f"{n} {outcome}" for outcome, n in counts.items()]
    return f"Of the paper's {len(claims)} claims: {', '.join(parts)}."


def _numbers(row) -> str:
    effect = getattr(row, "effect", None)
    if effect is None or not isfinite(effect):
        return str(getattr(row, "ours", ""))
    text = f"{effect:+.3g} [{row.low:+.3g}, {row.high:+.3g}], {row.repeats:.0f} repeats"
    if row.outcome == "undecided" and isfinite(row.repeats_needed):
        text += f" of about {row.repeats_needed:.0f} needed"
    return text
