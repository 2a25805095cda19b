"""The tables of the page on own data: what is taken as it is, and what is refused."""

import re
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/own-data.md"


def rows(heading):
    """What the rows of the table of this heading begin with, and what they say becomes of it."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.search(rf"^\| {heading} \| \|\n\|---\|---\|\n(.*?)\n\n", text, re.DOTALL | re.M)[1]
    return dict(line.strip("| ").split(" | ") for line in table.splitlines())


def quoted(outcome):
    """The sentences, or parts of them, that a row quotes."""
    return re.findall(r'"([^"]*(?:"\w+"[^"]*)?)"', outcome)


def assert_holds(outcome, attempts):
    """What a row says becomes of it is what does: taken, with a warning or without, or refused."""
    for attempt in attempts if isinstance(attempts, list) else [attempts]:
        if outcome.startswith("refused"):
            with pytest.raises(ValueError) as refusal:
                attempt()
            assert any(words in str(refusal.value) for words in quoted(outcome)), refusal.value
            assert "\n" not in str(refusal.value)
            continue
        assert outcome.startswith("taken")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            attempt()
        said = " ".join(str(one.message) for one in caught)
        assert ("left out" in said) == ("with a warning" in outcome), said
        assert all(words in said for words in quoted(outcome) if "warning" in outcome), said
