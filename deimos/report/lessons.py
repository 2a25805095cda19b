"""Numbers in a page's sentences, from the runs: `docs/what-we-learned.md` types none of them in.

A sentence carries a mark that names the experiment, the claim as the results page has it, and the
outcome that the sentence tells: `<!-- mnist-7-vs-9 :: Fig. 3 a: DEIMOS outperforms Random ::
supported -->…<!-- . -->`. What stands between the marks is ours, and written anew; runs that
decide otherwise make it an error, since then the sentence is wrong, and not only its number.
"""

import re
from collections.abc import Sequence

from deimos.report import verdicts
from deimos.report.judging import Verdict

MARK = re.compile(r"<!-- (.+?) :: (.+?) :: (.+?) -->.*?<!-- \. -->", re.DOTALL)


def with_numbers(page: str, found: Sequence[Verdict]) -> str:
    """The page with our numbers at every mark; `ValueError` where its words no longer hold."""

    def written(mark: re.Match) -> str:
        experiment, claim, told = mark.groups()
        these = [
            verdict
            for verdict in found
            if verdict.claim.experiment == experiment and verdict.claim.title == claim
        ]
        if len(these) != 1:
            raise ValueError(f"{experiment} has {len(these)} claims {claim!r}: name one")
        if these[0].outcome != told:
            raise ValueError(
                f"a sentence tells {claim!r} ({experiment}) as {told}, and the runs say "
                f"{these[0].outcome}: rewrite the sentence, then its mark"
            )
        return f"<!-- {experiment} :: {claim} :: {told} -->{number(these[0])}<!-- . -->"

    return MARK.sub(written, page)


def number(verdict: Verdict) -> str:
    """Our numbers for a claim as a sentence has them, with how often it was repeated."""
    times = "seeds" if verdict.claim.kind == "within" else "repeats"
    return verdicts.ours(verdict, shares=False) + (
        f" ({verdict.repeats} {times})" if verdict.repeats > 1 else ""
    )
