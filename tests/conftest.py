import shutil

import nbformat
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

LONGEST = ("test_notebooks_by_hand", "test_notebooks", "test_ray_engine")


def pytest_collection_modifyitems(items):
    """The longest files come first, so that processes side by side end together."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    missing = pytest.mark.skip(reason="no CUDA GPU")
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(missing)


@pytest.fixture(autouse=True)
def on_a_processor(request):
    """A GPU is shown to its own tests alone: others compare to the last bit, which it changes."""
    with pytest.MonkeyPatch.context() as patch:
        if torch.cuda.is_available() and not request.node.get_closest_marker("cuda"):
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for processes that it starts
        yield


@pytest.fixture(scope="session", autouse=True)
def no_make_around():
    """Tests that call make must not inherit the flags of the make that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A record with nothing in it, to be copied: making one takes seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def database(tmp_path, empty_database):
    """A record of the test's own, already made."""
    return shutil.copy(empty_database, tmp_path / "mlflow.db")


@pytest.fixture
def write_notebook():
    """Write a notebook from the sources of its parameters cell and of its other code cells."""

    def write(path, parameters, *cells):
        tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        others = [nbformat.v4.new_code_cell(source) for source in cells]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        metadata = {"kernelspec": kernel}
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=[tagged, *others], metadata=metadata), path)
        return path

    return write
