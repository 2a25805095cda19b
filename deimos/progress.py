"""Progress of long work: a bar where somebody watches, a line now and then in a log.

Terminals and notebooks get tqdm's bars. Elsewhere, as in the log of a batch job, a plain line comes
every 30 seconds, with the expected end.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from threading import Event, Lock, Thread
from typing import Any

from tqdm import tqdm

DISPLAYS = ("bar", "notebook", "lines")
PAUSE_BETWEEN_LINES = 30.0  # seconds between two lines
PULSE = 1.0  # seconds between two looks at the clock while a step is at work


def progress(
    items: Iterable | None = None, *, total: int | None = None, unit: str = "step", name: str = ""
) -> Any:
    """Show how far the work has come: iterate over it, or `update(n)` it within a `with`.

    `total` is how much there is to do, by default as many as there are `items`. The environment
    variable DEIMOS_PROGRESS decides between "bar", "notebook" and "lines" where it is set.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    how = kind()
    if how == "lines":
        return Lines(items, total, unit, name)
    bar = tqdm
    if how == "notebook":  # here, since it takes all widgets with it
        from tqdm.notebook import tqdm as bar
    return bar(items, total=total, unit=unit, desc=name, mininterval=1.0)


def kind() -> str:
    """Decide how progress is shown here; `ValueError` if DEIMOS_PROGRESS is none of `DISPLAYS`.

    The kernel of a notebook that is executed headless writes into its driver's stream, which has to
    say by DEIMOS_PROGRESS if that is a terminal.
    """
    asked = os.environ.get("DEIMOS_PROGRESS")
    if asked:
        if asked not in DISPLAYS:
            raise ValueError(
                f"DEIMOS_PROGRESS is {asked!r}: set it to one of {', '.join(DISPLAYS)}"
            )
        return asked
    if _in_kernel():
        return "lines" if "DEIMOS_EXECUTION" in os.environ else "notebook"
    return "bar" if sys.stderr.isatty() else "lines"


def _in_kernel() -> bool:
    """True if this process runs the cells of a notebook."""
    python = sys.modules.get("IPython")
    return getattr(python and python.get_ipython(), "kernel", None) is not None


class Lines:
    """Progress where nobody watches: a line every 30 seconds, and one at the end.

    Work that is done sooner leaves no line at all. Within a `with` a thread sees to it that a line
    comes while a step is at work, however long that takes.
    """

    def __init__(
        self,
        items: Iterable | None,
        total: int | None,
        unit: str,
        name: str,
        clock: Callable[[], float] = time.time,
    ):
        self.items, self.total, self.unit, self.name, self.clock = items, total, unit, name, clock
        self.n, self.start, self.lines = 0, clock(), 0
        self.due = self.start + PAUSE_BETWEEN_LINES
        self.one_writes, self.over = Lock(), Event()

    def __iter__(self) -> Iterator:
        with self:
            for item in self.items:
                yield item
                self.update()

    def __enter__(self) -> "Lines":
        Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """Count `n` more as done, and write a line if it is time for one."""
        self.n += n
        self._write_if_due()

    def close(self) -> None:
        """Write the last line, if there was one before."""
        with self.one_writes:
            self.over.set()
            if self.lines:
                self._write("the end")
                self.lines = 0

    def _watch(self) -> None:
        while not self.over.wait(PULSE):
            self._write_if_due()

    def _write_if_due(self) -> None:
        with self.one_writes:
            if self.clock() >= self.due and not self.over.is_set():
                self._write(self._expected())

    def _write(self, when: str) -> None:
        now = self.clock()
        of = "" if self.total is None else f" of {self.total}"
        name = f"{self.name}: " if self.name else ""
        print(
            f"{name}{self.n}{of} {self.unit}s in {_duration(now - self.start)}; {when}",
            file=sys.stderr,
            flush=True,
        )
        self.lines += 1
        self.due = now + PAUSE_BETWEEN_LINES

    def _expected(self) -> str:
        """The expected end, at the mean speed so far."""
        if not self.total or not self.n:
            return "no end in sight yet"
        now = self.clock()
        left = (now - self.start) * max(0, self.total - self.n) / self.n
        end, today = datetime.fromtimestamp(now + left), datetime.fromtimestamp(now).date()
        day = "" if end.date() == today else f"{end:%a %d %b} "
        return f"about {_duration(left)} to go, until {day}{end:%H:%M}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
