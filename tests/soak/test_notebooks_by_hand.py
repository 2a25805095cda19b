"""Every notebook as a person runs it: top to bottom, no parameters, no GPU, no data, no network."""

import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from deimos import tracking
from deimos.execution import notebooks

NOTEBOOKS = sorted(
    notebooks.NOTEBOOKS.glob("*.ipynb"), key=lambda path: (path.stem[:2] == "99", path.stem)
)
ARTIFACTS = Path(__file__).parents[1] / "artifacts" / "by-hand"
PATIENCE = 900  # seconds a notebook, on a machine that has other work too

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """One record for all, since 99 shows what the others did; minutes a notebook are kept."""
    folder = tmp_path_factory.mktemp("by-hand")
    lines = ["| notebook | minutes |", "|---|---|"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("DEIMOS_DATA", str(folder / "data"))
        patch.setenv("DEIMOS_OFFLINE", "1")
        patch.delenv("DEIMOS_EXECUTION", raising=False)
        yield lines
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    (ARTIFACTS / "minutes.md").write_text("\n".join(lines) + "\n")


def text_of(cell) -> str:
    """What a cell printed, and its tables as text."""
    streams = [out.get("text", "") for out in cell.outputs]
    return "".join([*streams, *(out.get("data", {}).get("text/html", "") for out in cell.outputs)])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom_on_a_laptop(record, notebook):
    nb = nbformat.read(notebook, as_version=4)
    began = time.monotonic()
    NotebookClient(
        nb, timeout=PATIENCE, resources={"metadata": {"path": notebook.parent}}
    ).execute()
    record.append(f"| {notebook.stem} | {(time.monotonic() - began) / 60:.1f} |")
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    pictures = [out for cell in code for out in cell.outputs if "image/png" in out.get("data", {})]
    assert pictures
    if notebook.stem.startswith("99"):
        assert set(tracking.table("mnist-7-vs-9", "quick").method) >= {"deimos", "random"}
    else:
        setup = next(cell for cell in code if cell.source.startswith("# Setup"))
        assert "quick scale, since this machine has no CUDA GPU" in text_of(setup)
