"""Numbers in a page's sentences, from the runs: `docs/what-we-learned.md` types none of them in.

A sentence carries a mark that names the experiment, the claim as the results page has it, and the
outcome that the sentence tells: `<!-- mnist-7-vs-9 :: Fig. 3 a: DEIMOS outperforms Random ::
supported -->…<!-- . -->`. What stands between the marks is ours, and written anew; runs that
decide otherwise make it an error, since then the sentence is wrong, and not only its number.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from deimos.report import verdicts
from deimos.report.judging import Verdict

MARK = re.compile(r"<!-- ([^>]+?) :: ([^>]+?) :: ([^>]+?) -->.*?<!-- \. -->", re.DOTALL)


def of_claims(found: Sequence[Verdict]) -> dict[tuple[str, str], tuple[str, str]]:
    """The outcome and the number of each claim that its experiment and title tell from all."""
    named = [((verdict.claim.experiment, verdict.claim.title), verdict) for verdict in found]
    count = Counter(name for name, _ in named)
    return {name: (one.outcome, number(one)) for name, one in named if count[name] == 1}


def with_numbers(page: str, known: Mapping[tuple[str, str], tuple[str, str]]) -> str:
    """The page with our numbers at every mark; `ValueError` where its words no longer hold.

    `known` has an outcome and a number for each experiment and title.
    """

    def written(mark: re.Match) -> str:
        experiment, claim, told = mark.groups()
        if (experiment, claim) not in known:
            raise ValueError(f"{experiment} has no one claim {claim!r}: name one as its page does")
        outcome, said = known[experiment, claim]
        if outcome != told:
            raise ValueError(
                f"a sentence tells {claim!r} ({experiment}) as {told}, and the runs say "
                f"{outcome}: rewrite the sentence, then its mark"
            )
        return f"<!-- {experiment} :: {claim} :: {told} -->{said}<!-- . -->"

    return MARK.sub(written, page)


def number(verdict: Verdict) -> str:
    """Our numbers for a claim as a sentence has them, with how often it was repeated."""
    times = "seeds" if verdict.claim.kind == "within" else "repeats"
    return verdicts.ours(verdict, shares=False) + (
        f" ({verdict.repeats} {times})" if verdict.repeats > 1 else ""
    )
