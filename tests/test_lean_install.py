"""The wheel installs with its core needs alone and the method runs there; what lacks is told.

The fresh environment is shown, of all that is installed here, the packages that the wheel's own
metadata asks for without an extra, and what these need: by links in a folder of their own, which
pip is not asked to change (`--no-deps`, `--isolated`: it installs deimos and nothing else).
"""

import os
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import deimos

ROOT = Path(deimos.__file__).parents[1]


def ended(*command, **more):
    """A process that has ended; it finds no package by PYTHONPATH."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = list(map(str, command))
    return subprocess.run(command, env=alone, capture_output=True, text=True, **more)


def run(*command, **more):
    done = ended(*command, **more)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def needs(requirements):
    """The distributions that these ask for on this machine without an extra, and what they need."""
    found, waiting = {}, list(requirements)
    while waiting:
        asked = Requirement(waiting.pop())
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        if asked.name not in found:
            found[asked.name] = distribution(asked.name)
            waiting += found[asked.name].requires or []
    return found


PIP = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check"]
ALONE = ["--quiet", "--no-index", "--no-deps"]  # nothing else is fetched, resolved or replaced


def copied(place):
    """What the package is built from: building in place would leave files in the clone."""
    place.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "deimos"):
        run("cp", "-r", ROOT / name, place / name)
    return place


def fresh(place, distributions):
    """The python of a new environment that sees these distributions and no others."""
    venv.create(place / "env", with_pip=False)
    python, shown = place / "env/bin/python", place / "shown"
    shown.mkdir()
    for dist in distributions:
        for top in {file.parts[0] for file in dist.files} - {"..", "__pycache__"}:
            here = Path(dist.locate_file(top))
            if here.exists() and not (shown / top).exists():
                (shown / top).symlink_to(here)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    Path(run(python, "-c", ask).strip(), "shown.pth").write_text(f"{shown}\n")
    return python


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """The python of a fresh environment that has the wheel and its core needs."""
    home = tmp_path_factory.mktemp("lean")
    source = copied(home / "source")
    run(*PIP, "wheel", *ALONE, "--no-build-isolation", "--wheel-dir", home, source)
    (wheel,) = home.glob("deimos-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [name for name in packed.namelist() if name.endswith("dist-info/METADATA")]
        metadata = packed.read(name).decode()
    asked = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    python = fresh(home, needs(asked).values())
    run(*PIP, "--python", python, "install", *ALONE, wheel)
    run(*PIP, "--python", python, "check")
    return python


@pytest.mark.soak
def test_the_method_runs_with_torch_numpy_and_two_small_packages(lean, tmp_path):
    script = tmp_path / "method.py"
    script.write_text(METHOD)
    said = run(lean, script, cwd=tmp_path)
    assert "all of it" in said
    project = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", installed(lean), re.MULTILINE)
    assert sorted(project) == ["jaxtyping", "numpy", "torch", "tqdm"]


def installed(python):
    """The metadata of deimos in that environment."""
    ask = "import importlib.metadata as m; print(m.distribution('deimos').read_text('METADATA'))"
    return run(python, "-c", ask)


METHOD = """
import importlib.util
import numpy as np
import torch
import deimos
from deimos import baselines, expected_improvement as ei
from deimos.acquisition.batchbald import batchbald
from deimos.acquisition.beliefs import Beliefs

for absent in ("mlflow", "pandas", "scipy", "matplotlib", "statsmodels", "highspy", "PIL"):
    assert importlib.util.find_spec(absent) is None, absent
rng = np.random.default_rng(0)
model = torch.nn.Sequential(
    torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 3)
)
pool = torch.from_numpy(rng.standard_normal((50, 4))).float()
assert len(set(deimos.select_batch(model, pool, 5).positions)) == 5
predictions = torch.from_numpy(rng.random((20, 30, 3))).softmax(2)
V, candidates = ei.covariance(predictions), torch.arange(30)
gains = ei.expected_improvement(V, candidates, 0.1)
assert ei.greedy_batch(V, candidates, 3, 0.1)[0] == gains.argmax()
assert len(ei.select(predictions, candidates, 3, smoothing=0.1)) == 3
beliefs = Beliefs(candidates, predictions, predictions[0])
for acquire in (
    baselines.random, baselines.max_variance, baselines.max_entropy, baselines.bald, batchbald
):
    assert len(set(acquire(beliefs, 4, rng).tolist())) == 4, acquire
print("all of it")
"""


@pytest.mark.soak
def test_what_a_lean_install_lacks_is_one_sentence_with_the_command(lean, tmp_path):
    command = 'python -m pip install "deimos[reproduce]"'
    done = ended(lean, "-m", "deimos", "select", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert command in done.stderr and "mlflow" in done.stderr
    script = tmp_path / "every_module.py"
    script.write_text(EVERY_MODULE)
    lines = run(lean, script, cwd=tmp_path).splitlines()
    assert [line for line in lines if not line.endswith(": imported") and command not in line] == []
    lacking = {line.partition(":")[0] for line in lines if command in line}
    assert {"deimos.tracking", "deimos.stats", "deimos.k_center"} <= lacking
    assert (
        not {"deimos.pool.select_batch", "deimos.expected_improvement", "deimos.baselines"}
        & lacking
    )


EVERY_MODULE = """
import importlib, pkgutil
import deimos
found = pkgutil.walk_packages(deimos.__path__, "deimos.", lambda _: None)
names = [module.name for module in found]
for name in names:
    if name == "deimos.__main__" or name.endswith(("for_baal", "for_skactiveml", "ray_engine")):
        continue  # other extras, tested apart
    try:
        importlib.import_module(name)
        print(f"{name}: imported")
    except ModuleNotFoundError as missing:
        print(f"{name}: {missing}")
"""


def test_the_clone_is_found_from_the_folder_that_holds_it(tmp_path):
    """As `make env` installs it, it is found although a folder `deimos/` lies where one stands."""
    clone = copied(tmp_path / "deimos")
    python = fresh(tmp_path, [distribution("setuptools")])
    recipe = makefile().replace("\\\n", " ")
    flags = re.search(r"pip install --quiet (--no-deps .*?) -e \.", recipe)[1].split()
    run(*PIP, "--python", python, "install", *ALONE, *flags, "-e", clone)
    found = run(python, "-c", "import importlib.util as u; print(u.find_spec('deimos').origin)",
                cwd=tmp_path)  # fmt: skip
    assert Path(found.strip()) == clone / "deimos/__init__.py"


def makefile():
    return (ROOT / "Makefile").read_text()
