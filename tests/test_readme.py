"""The README's results are those of the kept runs, number by number."""

import re
import shutil

import pandas as pd
import pytest

from deimos import readme
from deimos.record import archive


@pytest.fixture(scope="module")
def kept(tmp_path_factory, empty_database):
    """A fresh record with the runs that the repository keeps."""
    file = shutil.copy(empty_database, tmp_path_factory.mktemp("kept") / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        archive.read_references()
        on_cpus = readme.kept(device=readme.ON_CPUS)
        yield readme.results(readme.kept(), on_cpus), readme.costs(on_cpus)


def test_the_readme_says_what_the_kept_runs_say(kept):
    text, (results, costs) = readme.README.read_text(encoding="utf-8"), kept
    assert readme.written(text, results) == text
    assert readme.written(text, costs, readme.COST_MARKS) == text
    assert results.count("\n|") > 10 and costs.count("\n|") > 3


def test_every_p_value_told_in_words_is_one_of_the_tables(kept):
    text, (results, _) = readme.README.read_text(encoding="utf-8"), kept
    words = re.sub(r"\s+", " ", readme.written(text, ""))
    told = set(re.findall(r"(?:p = |by run )\d[\d.e-]*\d", words))
    found = set(re.findall(r"(?:p = |by run )\d[\d.e-]*\d", results))
    assert len(told) > 5 and told <= found


def test_nothing_that_small_or_stand_in_runs_decide_is_in_it(kept):
    results, _ = kept
    assert "quick scale" not in results and "smoke" not in results
    assert all("not tested" in row for row in results.split("\n") if "not the paper's data" in row)


def test_a_readme_without_its_marks_is_refused(kept):
    with pytest.raises(ValueError, match="needs the marks"):
        readme.written("# deimos", kept[0])


def test_runs_are_shared_among_workers_but_none_is_cut_in_two():
    runs = pd.Series([1.0, 2.0, 3.0])
    assert [readme.hours(runs, 12, workers) for workers in (1, 4, 8, 64)] == [24.0, 6.0, 3.0, 3.0]


def test_kept_runs_are_small_enough_for_git():
    assert sum(file.stat().st_size for file in archive.REFERENCES.rglob("*")) < 10_000_000
