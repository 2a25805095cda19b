"""The README's results are those of the kept runs, number by number."""

import shutil

import pytest

from deimos import archive, readme


@pytest.fixture(scope="module")
def kept(tmp_path_factory, empty_database):
    """A fresh record with the runs that the repository keeps."""
    file = shutil.copy(empty_database, tmp_path_factory.mktemp("kept") / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        archive.read_references()
        yield readme.results()


def test_the_readme_says_what_the_kept_runs_say(kept):
    text = readme.README.read_text(encoding="utf-8")
    assert readme.written(text, kept) == text
    assert kept.count("\n|") > 10


def test_nothing_that_small_or_stand_in_runs_decide_is_in_it(kept):
    assert "quick scale" not in kept and "smoke" not in kept
    assert "not the paper's data" not in kept


def test_a_readme_without_its_marks_is_refused(kept):
    with pytest.raises(ValueError, match="needs the marks"):
        readme.written("# deimos", kept)


def test_kept_runs_are_small_enough_for_git():
    assert sum(file.stat().st_size for file in archive.REFERENCES.iterdir()) < 10_000_000
