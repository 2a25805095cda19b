"""A part of the package loads no more than it needs."""

import subprocess
import sys
from importlib import import_module

import pytest

HEAVY = ("mlflow", "matplotlib", "seaborn", "highspy", "statsmodels", "papermill", "pandas")


def loaded_by(code):
    """Modules that are loaded once `code` has run in a Python of its own."""
    code += "; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {*run.stdout.split()}


def test_the_public_face_loads_no_library_that_it_does_not_need():
    loaded = loaded_by("import deimos; deimos.select_batch")
    assert {"torch", "numpy"} <= loaded and loaded.isdisjoint(HEAVY)


def test_the_mathematics_loads_no_network_and_no_data_set():
    loaded = loaded_by("import deimos.acquisition.fast_selection, deimos.expected_improvement")
    parts = {name.split(".")[1] for name in loaded if name.startswith("deimos.")}
    assert parts == {"acquisition", "expected_improvement"} and loaded.isdisjoint(HEAVY)


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'select_bach'"):
        getattr(import_module("deimos"), "select_" + "bach")
