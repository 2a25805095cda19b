"""The kept runs and their verdicts, read and judged once for all tests of the reports."""

import pytest

from deimos.report import results_page


@pytest.fixture(scope="session")
def kept():
    return results_page.kept()


@pytest.fixture(scope="session")
def decided(kept):
    return results_page.decided(kept)
