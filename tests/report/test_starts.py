"""B3's starts stand side by side, each compared by itself."""

import pytest
from matplotlib.collections import PathCollection

from deimos.report import archived, starts


def test_a_start_of_its_own_budget_stands_beside_the_papers_without_other_pixels():
    found = starts.by_labels()
    assert found
    for files in found.values():
        assert len(files) > 1 and list(files) == sorted(files)
        for n, file in files.items():
            assert set(archived.table(file).query("n_acquired == 0").n_labelled) == {n}
            assert "pixels" not in file.stem


@pytest.mark.parametrize("reference", ["random", "deimos"])
def test_a_lead_is_the_mean_over_repeats_and_the_curve_less_that_of_the_reference(reference):
    found = starts.leads(reference)
    for row in found.itertuples():
        file = starts.by_labels()[row.digits][row.n]
        means = archived.rows(file, "accuracy").groupby("method").value.mean()
        assert row.effect == pytest.approx(means[row.method] - means[reference])


def test_the_table_has_every_method_that_ran_from_all_starts_twice_less_random_and_less_deimos():
    text, number = starts.table(), 0
    for files in starts.by_labels().values():
        ran = [{*archived.rows(file, "accuracy").method} for file in files.values()]
        number += 2 * (len(set.intersection(*ran)) - 1)
    rows = [line for line in text.splitlines() if line.startswith(("| Random", "| DEIMOS"))]
    assert len(rows) == number
    assert text.count("**") == 2 * sum(
        (starts.leads(reference).holm < 0.05).sum() for reference in ("random", "deimos")
    )


def test_the_figure_has_a_panel_for_each_set_of_digits_and_a_mark_for_each_lead():
    figure = starts.drawn()
    found = starts.leads("random")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == found.digits.unique().tolist()
    for axes in panels:
        marks = sum(
            len(one.get_offsets()) for one in axes.collections if isinstance(one, PathCollection)
        )
        assert marks == (found.digits == axes.get_title()).sum()


def test_on_two_digits_no_method_is_told_above_deimos_from_any_start():
    """As the results page says in words."""
    found = starts.leads("deimos").query("digits == 'MNIST 7 vs 9'")
    assert sorted(found.n.unique()) == [10, 30, 100]
    assert not ((found.effect > 0) & (found.holm < 0.05)).any()


def test_on_ten_digits_max_herding_is_told_above_deimos_from_every_start():
    """As the README and the page of lessons say in words, and of 100 labels of two others."""
    found = starts.leads("deimos").query("digits == 'MNIST 0-9'")
    above = found[(found.effect > 0) & (found.holm < 0.05)]
    assert sorted(found.n.unique()) == [10, 30, 100]
    assert sorted(above[above.method == "max_herding"].n) == [10, 30, 100]
    assert {*above[above.n == 100].method} == {"max_herding", "power_bald", "badge"}
