"""Packages that only part of this one needs: an extra that is missing is one sentence.

The method itself needs torch, numpy, jaxtyping and tqdm. The notebooks, the record, the paper's
data and the command for files need more, which `pip install "deimos[reproduce]"` brings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import in here what the extra `name` brings; what is missing is told with the command."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "deimos").partition(".")[0] == "deimos":
            raise
        raise ModuleNotFoundError(
            f"this part of deimos needs {missing.name}, which a plain install leaves out: "
            f'python -m pip install "deimos[{name}]"',
            name=missing.name,
        ) from missing


def need(name: str, *modules: str) -> None:
    """ModuleNotFoundError, as by `extra`, unless all of these modules are installed."""
    for module in modules:
        if find_spec(module) is None:
            with extra(name):
                raise ModuleNotFoundError(name=module)
