"""Work on one core or on all of them, with the same result to the last bit.

Pieces that are small lose more by waiting for other cores than they gain; large arrays are cut into
parts of a size that does not depend on the machine, each part is one core's, and what is summed
over parts is summed in their order.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one core: with pieces this small, cores lose more by waiting than they gain.

    Nor does the batch then depend on the number of cores, to the last bit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Cores:
    """As many threads of one core each as torch has threads; none for a single part."""

    def __init__(self, parts: int):
        self.n = min(torch.get_num_threads(), parts)

    def __enter__(self) -> "Cores":
        self.alone = one_thread()
        self.alone.__enter__()
        self.threads = (
            ThreadPoolExecutor(self.n, initializer=torch.set_num_threads, initargs=(1,))
            if self.n > 1
            else None
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self.threads:
            self.threads.shutdown(cancel_futures=True)
        self.alone.__exit__(*error)

    def each(self, work: Callable[..., T], *parts: Iterable) -> list[T]:
        """Run the work on each part, in order; return what it gives."""
        if self.threads:
            return list(self.threads.map(_quietly(work), *parts))
        return list(map(work, *parts))


def _quietly(work: Callable[..., T]) -> Callable[..., T]:
    """Without gradients, which are switched off for each thread by itself."""

    def alone(*given: object) -> T:
        with torch.no_grad():
            return work(*given)

    return alone
