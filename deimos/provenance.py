"""What a result depends on beside its settings: the science modules, the commit, the machine."""

import ast
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

PACKAGE = Path(__file__).parent
# The modules that decide a number; those that are not there are passed over.
SCIENCE = (
    "data",
    "networks",
    "mc_dropout",
    "beliefs",
    "training",
    "together",
    "all_trunks",
    "tap_pooling",
    "expected_improvement",
    "inputs",
    "cores",
    "mask_space",
    "candidate_blocks",
    "fast_selection",
    "forward_backward",
    "optimality",
    "baselines",
    "batchbald",
    "k_center",
    "covering",
    "methods",
    "splits",
    "splicing",
    "faces",
    "image_files",
    "synthetic",
    "own_data",
    "stand_ins",
    "downloads",
    "members",
    "iteration",
    "loop",
    "one_dimension",
)


def code_fingerprint(folder: Path = PACKAGE, also: Sequence[str] = ()) -> str:
    """A hash of the science modules in `folder` and the numbers stored beside them as JSON.

    `also` names further modules, for a result that more depends on. Comments, docstrings and layout
    do not count.
    """
    modules = {name: folder / f"{name}.py" for name in SCIENCE}
    code = [(name, _bare(file)) for name, file in modules.items() if file.exists()]
    code += [(name, _bare(folder / f"{name}.py")) for name in also]
    code += [(file.name, json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))]
    return hashlib.sha256(repr(code).encode()).hexdigest()[:16]


def _bare(file: Path) -> list:
    """A module's syntax tree as nested lists, without docstrings.

    Neither `ast.unparse` (f-strings) nor `ast.dump` (new fields) says the same in every Python.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return _plain(tree)


def _plain(node: object) -> object:
    if isinstance(node, ast.AST):
        fields = [(k, _plain(v)) for k, v in ast.iter_fields(node) if v is not None and v != []]
        return [type(node).__name__, *fields]
    return [_plain(child) for child in node] if isinstance(node, list) else repr(node)


def machine() -> dict[str, str]:
    """The commit and whether the files differ from it, device, threads and versions, as tags."""
    cuda = torch.cuda.is_available()
    return {
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))),
        "device": torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()})",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _git(*arguments: str) -> str:
    """What git says of the package's folder; nothing where it is no checkout or there is no git."""
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, env=quiet
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
