"""The numbers of the README and of the results page are those of the kept runs."""

import pytest

from deimos import tracking
from deimos.report import results_page


@pytest.fixture(scope="module")
def pages(kept, decided):
    return results_page.pages(kept, decided)


def test_pages_say_what_the_kept_runs_say(pages):
    for page, text in pages.items():
        assert page.read_text(encoding="utf-8") == text
    assert pages[results_page.RESULTS].count("\n|") > 100


def test_every_claim_has_a_row_and_no_small_run_decides_any(pages):
    results = pages[results_page.RESULTS]
    outcomes = ("supported", "contradicted", "undecided", "not tested")
    rows = [line for line in results.split("\n") if any(f"| **{o}** |" in line for o in outcomes)]
    assert len(rows) == len(results_page.paper.CLAIMS)
    begin, end = results_page.MARKS
    written = results.partition(begin)[2].partition(end)[0]
    assert "quick scale" not in written and "smoke" not in written
    assert all("**not tested**" in row for row in rows if "not the paper's data" in row)


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="needs the marks"):
        results_page.between_marks("# deimos", "text")


def test_kept_runs_are_small_enough_for_git():
    assert sum(file.stat().st_size for file in tracking.REFERENCES.rglob("*")) < 25_000_000
