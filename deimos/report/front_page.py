"""The page that `make ui` opens on: figures, what the paper claims of each, the runs behind it.

Plain HTML and CSS from one template, in which every text is escaped. Nothing here reads the record:
`browse` does, and serves the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from deimos.report.verdicts import counted

TEMPLATE = Path(__file__).with_suffix(".html")


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
        return [
            {
                "claim": row.claim,
                "where": row.where,
                "outcome": row.outcome,
                "numbers": "; ".join(part for part in (row.ours, row.needs) if part),
            }
            for row in self.claims.itertuples()
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


def front_summary(claims: pd.DataFrame) -> str:
    """Count the claims by outcome, in a sentence."""
    return f"Of the paper's {len(claims)} claims: {counted(claims.outcome.tolist())}."
