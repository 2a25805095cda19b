"""A download is whole and right, or it is not there."""

import pytest

from deimos import downloads


@pytest.fixture
def served(monkeypatch):
    """A network that answers with what the test puts here; an exception is raised half-way."""
    answer = {}

    class Downloader:
        def __init__(self, **settings):
            assert settings["timeout"]

        def __call__(self, url, output_file, pooch):
            with open(output_file, "wb") as file:
                file.write(answer["content"])
            if "error" in answer:
                raise answer["error"]

    monkeypatch.setattr(downloads.pooch, "HTTPDownloader", Downloader)
    return answer


def whole(file):
    if file.read_bytes() != b"whole":
        raise ValueError("not whole")


def test_a_right_download_is_kept_and_not_fetched_again(served, tmp_path):
    served["content"] = b"whole"
    file = tmp_path / "new" / "file"
    assert downloads.fetch("http://here", file, whole) == file
    served["content"] = b"another"
    assert downloads.fetch("http://here", file, whole) == file
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_wrong_download_is_an_error_and_leaves_nothing(served, tmp_path):
    served["content"] = b"<html>"
    with pytest.raises(ValueError, match="not whole"):
        downloads.fetch("http://here", tmp_path / "file", whole)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError()])
def test_a_download_that_breaks_off_leaves_nothing(served, tmp_path, error):
    served.update(content=b"who", error=error)
    assert downloads.fetch("http://here", tmp_path / "file", whole) is None
    assert not list(tmp_path.iterdir())


def test_a_download_that_is_killed_leaves_nothing_under_its_name(served, tmp_path):
    served.update(content=b"who", error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        downloads.fetch("http://here", tmp_path / "file", whole)
    assert not (tmp_path / "file").exists()


def test_without_a_network_there_is_none(tmp_path):
    assert downloads.fetch("http://127.0.0.1:9/file", tmp_path / "file", whole) is None
