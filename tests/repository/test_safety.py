"""Data are read as data: nothing in the code can run what is in a file, or let it write."""

import ast
from pathlib import Path

import nbformat
import pytest

import deimos

ROOT = Path(deimos.__file__).parents[1]
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# What a call must say, by its name; None: it must not be there at all.
SAFELY = {
    "torch.load": "weights_only=True",
    "np.load": "allow_pickle=False",
    "numpy.load": "allow_pickle=False",
    "extract": "filter='data'",
    "extractall": "filter='data'",
    "unpack_archive": "filter='data'",
    "read_pickle": None,
    "yaml.load": None,
    "yaml.unsafe_load": None,
    "fromfile": None,
}


def unsafe(code: str) -> list[str]:
    """The imports and calls in a piece of Python that could run or write what a file says."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = names if isinstance(node, ast.Import) else [node.module or "", *names]
            found += [name for name in names if name.split(".")[0] in PICKLES]
        if isinstance(node, ast.Call):
            said = {ast.unparse(keyword) for keyword in node.keywords}
            called = ast.unparse(node.func)
            for name, wanted in SAFELY.items():
                if (called == name or called.endswith(f".{name}")) and wanted not in said:
                    found.append(ast.unparse(node))
    return found


def sources() -> dict[str, str]:
    files = [*ROOT.glob("deimos/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    code = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    for file in ROOT.glob("notebooks/*.ipynb"):
        cells = nbformat.read(file, as_version=4).cells
        code[file.name] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return code


def test_nothing_is_unpickled_and_archives_are_not_unpacked_without_a_filter():
    assert {name: found for name, code in sources().items() if (found := unsafe(code))} == {}
    assert len(sources()) > 30


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import torch; torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "pd.read_pickle(f)",
        "tar.extractall(folder)",
        "tar.extractall(folder, filter='fully_trusted')",
        "shutil.unpack_archive(f)",
    ],
)
def test_that_would_be_noticed(code):
    assert unsafe(code)
