"""A page's sentences tell what the runs say, number and outcome."""

import re

import pytest

from deimos.report import lessons, results_page, verdicts

CLAIM = "mnist-7-vs-9 :: Fig. 3 a: DEIMOS outperforms Random"


def test_a_mark_gets_the_claims_number_and_stays_as_it_is_afterwards(decided):
    found = [verdict for _, verdict in decided]
    (one,) = [v for v in found if f"{v.claim.where}: {v.claim.says}" == CLAIM.split(" :: ")[1]]
    effect = one.deciding.effect
    page = f"Ahead: <!-- {CLAIM} :: {one.outcome} -->old<!-- . -->."
    written = lessons.with_numbers(page, lessons.of_claims(found))
    assert written == (
        f"Ahead: <!-- {CLAIM} :: {one.outcome} -->{verdicts.ours(one)} "
        f"({one.repeats} repeats)<!-- . -->."
    )
    assert f"{effect:+.2g}" in written
    assert lessons.with_numbers(written, lessons.of_claims(found)) == written


@pytest.mark.parametrize(
    "mark, says",
    [
        (f"{CLAIM} :: contradicted", "as contradicted, and the runs say supported: rewrite"),
        (
            "mnist-7-vs-9 :: Fig. 9: nothing :: supported",
            "mnist-7-vs-9 has no one claim 'Fig. 9: not",
        ),
        (f"face-age :: {CLAIM.split(' :: ')[1]} :: supported", "face-age has no one claim"),
    ],
)
def test_words_that_the_runs_do_not_bear_out_are_refused(decided, mark, says):
    known = lessons.of_claims([verdict for _, verdict in decided])
    with pytest.raises(ValueError, match=says):
        lessons.with_numbers(f"<!-- {mark} --><!-- . -->", known)


def test_the_page_has_no_number_of_a_comparison_outside_its_marks():
    page = results_page.LESSONS.read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 80
    rest = lessons.MARK.sub("", page)
    assert not re.search(r"[+-]\d*\.\d|\[[+-]", rest)
