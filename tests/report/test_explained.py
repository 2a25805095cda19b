"""What explains the curves is what the kept runs say, paired by repeat."""

import numpy as np
import pytest

from deimos import stats, tracking
from deimos.report import archived, explained, paper
from deimos.studies.targets import TARGETS
from deimos.tasks.authors import published_curves


def runs_of(file):
    _, runs = tracking.contents(file)
    return [run for run in runs.values() if run["tags"].get("kind") == "run"]


def settings_of(file, *but):
    """The settings of an archive's runs, each once, but for those named."""
    told = [run["params"].items() for run in runs_of(file)]
    return {tuple(sorted((k, v) for k, v in one if k not in but)) for one in told}


def test_fits_that_differ_in_their_last_minibatch_have_the_same_labels_and_no_other_setting():
    assert explained.DIPS
    for file in explained.DIPS:
        runs = runs_of(file)
        repeats = {run["params"]["repeat"] for run in runs}
        assert len(settings_of(file, "remainder", "repeat")) == 1
        assert {run["params"]["remainder"] for run in runs} == {"kept", "dropped", "merged"}
        assert len(runs) == 3 * len(repeats)
        values, _ = tracking.contents(file)
        ids = values[values.metric == "batch/id"].merge(
            values[values.metric == "n_labelled"].groupby("run").value.max(), on="run"
        )
        by_repeat = ids.assign(
            repeat=ids.run.map({r["origin"]: r["params"]["repeat"] for r in runs})
        )
        assert (by_repeat.groupby("repeat").value_x.nunique() == 1).all()


def test_a_fit_of_whole_minibatches_is_the_same_whatever_the_remainder():
    for file in explained.DIPS:
        table = tracking.of_archives([file]).table
        table = table[(table.metric == "accuracy") & (table.n_labelled % explained.MINIBATCH == 0)]
        assert len(table) and (table.groupby("repeat").value.nunique() == 1).all()


def test_the_scales_of_a_label_have_the_same_sets_tests_and_settings():
    assert len(settings_of(explained.CENTRED, "task", "checksum", "method", "repeat")) == 1
    scales = settings_of(explained.CENTRED, "method", "repeat")
    of_task = {dict(settings)["task"]: settings for settings in scales}
    assert of_task.keys() == {f"targets-splicing: {target}" for target in TARGETS}
    (noisier,) = settings_of(explained.NOISIER, "method", "repeat")
    assert {name for name, _ in {*of_task["targets-splicing: y"]} ^ {*noisier}} == {"noise"}


def test_every_scale_has_five_repeats_to_300_labels():
    for target, rows in explained._by_target():
        ends = rows[rows.metric == "mse"].groupby(["method", "repeat"]).n_acquired.max()
        assert ends.unique() == [300] and len(ends) == 10, target


def test_the_noise_by_app_e_is_a_tenth_to_a_fifth_of_the_first_models_variance():
    """The first models are those of the paper's noise to the last bit: it is not trained with."""
    first = {}
    for file in (explained.CENTRED, explained.NOISIER):
        rows = archived.rows(file, "mean_variance").query("n_acquired == 0 and method == 'deimos'")
        rows = rows[rows.experiment == "targets-splicing: y"].sort_values("repeat")
        first[file] = rows.value.tolist()
    assert first[explained.CENTRED] == first[explained.NOISIER]
    (paper_noise,), (noise,) = (
        {float(dict(settings)["noise"]) for settings in settings_of(file)} for file in first
    )
    variance = np.mean(first[explained.CENTRED])
    assert paper_noise < 0.1 * variance <= noise <= 0.2 * variance


def test_ten_at_a_time_deimos_leans_to_one_end_less_than_one_at_a_time():
    """The pages say so of ES7: the two intervals have nothing in common."""
    by_target = dict(explained._by_target())
    ten = by_target["y"][by_target["y"].metric == "mean_label"]
    single = archived.rows(explained.SPLICING, "mean_label")
    least, most = stats.run_level_test(ten, "random").interval
    assert stats.run_level_test(single, "random").interval[1] < least < most < 0


def test_our_errors_on_faces_are_the_authors_and_more_by_what_the_page_says():
    """Compared curve by curve: the mean over what both have, the authors' then taken away."""
    curve = ["batch_size", "method", "n_acquired"]
    ours = tracking.of_archives([explained.FACES]).table.query("metric == 'rmse'")
    theirs = published_curves().query("experiment == 'face-age'")
    both = [side.groupby(curve).value.mean() for side in (ours, theirs)]
    less = (both[0] - both[1]).dropna().groupby(["batch_size", "method"]).mean()
    assert len(less) == 6 and less.min() > 0
    said = explained.outcomes()["faces", "our errors, less the authors'"]
    assert said == ("higher", f"{less.min():.1f} to {less.max():.1f} years")


def test_the_authors_curves_give_the_papers_p_as_it_is_printed():
    printed = explained.outcomes()["splicing", "the paper's test of the authors' curves"]
    assert printed == ("higher", f"p = {paper.SPLICING[0].printed[0]}")


def test_by_the_authors_estimator_batchbald_is_less_diverse_than_by_ours_and_more_than_deimos():
    """The last picks of ours are not told from random's."""
    told = {estimator: found for J, estimator, found in explained._estimators() if J == 50}
    ours, authors = told["BatchBALD"], told["BatchBALD (authors' estimator)"]
    diversity, hardness = [*explained.ESTIMATED][1:]
    assert ours[diversity][0] == authors[diversity][0] == "higher"
    assert (ours[hardness][0], authors[hardness][0]) == ("undecided", "higher")
    diversity = archived.rows(explained.BATCHBALD[50], "diversity")
    assert archived.less(diversity, "batchbald_authors", "batchbald")[0] == "lower"


def test_no_run_of_batchbald_with_250_masks_stands_beside_random_labels():
    assert "random" not in set(archived.table(explained.BATCHBALD[250]).method)


@pytest.mark.parametrize("estimator", ["batchbald", "batchbald_authors"])
def test_with_250_masks_batchbald_is_more_diverse_than_deimos_still_but_by_less(estimator):
    of_50, of_250 = (
        stats.run_level_test(archived.rows(file, "diversity").query("repeat <= 3"), estimator)
        for file in explained.BATCHBALD.values()
    )
    assert of_250.interval[0] > 0
    _, (low, _) = stats.paired_test(np.subtract(of_50.differences, of_250.differences))
    assert low > 0


def test_three_repeats_have_batchbald_ahead_of_deimos_by_both_estimators_and_ten_by_neither():
    accuracy = archived.rows(explained.BATCHBALD[50], "accuracy")
    for estimator in ("batchbald", "batchbald_authors"):
        assert archived.less(accuracy.query("repeat <= 3"), estimator)[0] == "higher"
        assert archived.less(accuracy, estimator)[0] == "undecided"
