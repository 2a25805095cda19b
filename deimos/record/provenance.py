"""Provenance of a result, beside its settings: the science modules, the commit, the machine."""

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

PACKAGE = Path(__file__).parents[1]
# The files that decide a number, and the folders all of whose files do; the Makefile has the same.
SCIENCE_FILES = ("expected_improvement", "baselines", "k_center")
SCIENCE_FOLDERS = ("acquisition", "models", "tasks", "experiment")


def science_modules(folder: Path = PACKAGE) -> list[str]:
    """Names of the modules that decide a number, in order: `models/networks` and the like."""
    files = [file for name in SCIENCE_FILES for file in folder.glob(f"{name}.py")]
    files += [file for name in SCIENCE_FOLDERS for file in folder.glob(f"{name}/*.py")]
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in files)


def code_fingerprint(folder: Path = PACKAGE, also: Sequence[str] = ()) -> str:
    """A hash of the science modules in `folder` and the numbers stored beside them as JSON.

    `also` names further modules, for a result that more depends on. Comments, docstrings and layout
    do not count.
    """
    modules = [*science_modules(folder), *also]
    texts = ((name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in modules)
    code = [(name, _bare(text)) for name, text in texts]
    stored = sorted(file for name in SCIENCE_FOLDERS for file in folder.glob(f"{name}/*.json"))
    code += [(file.name, json.loads(file.read_text())) for file in stored]
    return hashlib.sha256(repr(code).encode()).hexdigest()[:16]


@cache  # every fleet asks, and a second is much where it has few runs
def _bare(text: str) -> list:
    """A module's syntax tree as nested lists, without docstrings.

    Neither `ast.unparse` (f-strings) nor `ast.dump` (new fields) says the same in every Python.
    """
    tree = ast.parse(text)
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
        "device": torch.cuda.get_device_name() if cuda else f"CPU ({processor()})",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def processor(told: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name and what torch computes with, as "Intel Xeon, AVX512 and AMX".

    Another one rounds otherwise, and training makes much of that.
    """
    text = told.read_text() if told.exists() else ""
    names = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    name = names[0] if names else platform.processor() or platform.machine()
    name = " ".join(re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*", "", name).split())
    matrices = " and AMX" if re.search(r"\bamx_bf16\b", text) else ""
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}{matrices}"


def _git(*arguments: str) -> str:
    """Git's answer for the package's folder; empty without a checkout or without git."""
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, env=quiet
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
