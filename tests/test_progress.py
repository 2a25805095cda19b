"""Progress: a bar where somebody watches, a few plain lines where it is written down."""

import re
import subprocess
import sys
import time
from datetime import datetime

import pytest
import tqdm
import tqdm.notebook

from deimos import progress
from deimos.progress import Lines


@pytest.fixture(autouse=True)
def nobody_said(monkeypatch):
    monkeypatch.delenv("DEIMOS_PROGRESS", raising=False)
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = datetime(2026, 3, 5, 12, 0).timestamp()

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress, "PULSE", 3600)  # nobody looks at it but the test
    return Clock()


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_line_comes_every_half_minute_with_the_expected_end(clock, capsys):
    with Lines(None, 100, "label", "moons", clock) as work:
        for _ in range(100):
            clock.now += 3
            work.update()
    first, *others, last = lines(capsys)
    assert first == "moons: 10 of 100 labels in 0:30; about 4:30 to go, until 12:05"
    assert len(others) == 9 and last == "moons: 100 of 100 labels in 5:00; the end"


def test_work_of_seconds_leaves_no_line(clock, capsys):
    with Lines(None, 100, "label", "moons", clock) as work:
        for _ in range(100):
            clock.now += 0.29
            work.update()
    assert lines(capsys) == []


def test_a_line_comes_while_a_long_step_is_at_work_and_none_after_the_end(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PAUSE_BETWEEN_LINES", 0.1)
    monkeypatch.setattr(progress, "PULSE", 0.01)
    with Lines(None, 10, "label", "moons") as work:
        time.sleep(0.5)
        work.update(10)
    said = lines(capsys)
    assert len(said) >= 3 and said[0] == "moons: 0 of 10 labels in 0:00; no end in sight yet"
    assert said[-1].endswith("the end")
    time.sleep(0.3)
    assert lines(capsys) == []


def test_an_end_on_another_day_names_the_day(clock, capsys):
    work = Lines(None, 1000, "fit", "", clock)
    clock.now += 3600
    work.update(10)
    assert lines(capsys) == [
        "10 of 1000 fits in 1:00:00; about 99:00:00 to go, until Mon 09 Mar 16:00"
    ]


def test_without_a_total_no_end_is_promised(clock, capsys):
    work = Lines(None, None, "point", "predicting", clock)
    clock.now += 31
    work.update(7)
    assert lines(capsys) == ["predicting: 7 points in 0:31; no end in sight yet"]


def test_iterating_gives_every_item_and_ends_when_left_early(clock, capsys):
    work = Lines(iter("abc"), 3, "letter", "", clock)
    assert list(work) == ["a", "b", "c"] and work.n == 3
    work = Lines(iter("abc"), 3, "letter", "", clock)
    for letter in work:
        clock.now += 40
        if letter == "b":
            break
    del letter, work
    assert re.match("1 of 3 letters in 0:40", lines(capsys)[0])


@pytest.mark.parametrize(
    ("asked", "kind"),
    [("bar", tqdm.tqdm), ("notebook", tqdm.notebook.tqdm), ("lines", Lines)],
)
def test_the_environment_decides_where_it_says_so(monkeypatch, asked, kind):
    monkeypatch.setenv("DEIMOS_PROGRESS", asked)
    with progress.progress(total=3, unit="step") as work:
        work.update()
    assert isinstance(work, kind) and work.n == 1 and work.total == 3


def test_another_word_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("DEIMOS_PROGRESS", "loud")
    with pytest.raises(ValueError, match="'loud': set it to one of bar, notebook, lines"):
        progress.progress(total=3)


@pytest.mark.parametrize(
    ("kernel", "execution", "terminal", "kind"),
    [
        (True, False, False, "notebook"),
        (True, True, True, "lines"),
        (False, False, True, "bar"),
        (False, True, True, "bar"),
        (False, False, False, "lines"),
    ],
)
def test_terminals_and_notebooks_get_a_bar_and_logs_get_lines(
    monkeypatch, kernel, execution, terminal, kind
):
    monkeypatch.setattr(progress, "_in_kernel", lambda: kernel)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    if execution:
        monkeypatch.setenv("DEIMOS_EXECUTION", "run")
    assert progress.kind() == kind


def test_a_process_without_a_terminal_writes_no_bar():
    code = "from deimos.progress import progress\nprint(sum(progress(range(50_000), name='sums')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1249975000\n", "")
