"""A sentence's comparison is that of paired run means."""

import numpy as np
import pytest
from tables import curves

from deimos.report import archived


@pytest.mark.parametrize(
    ("difference", "way"),
    [
        ([0.1, 0.2, 0.3], "undecided"),
        ([0.19, 0.2, 0.21], "higher"),
        ([-0.2, -0.21, -0.22], "lower"),
    ],
)
def test_a_method_is_higher_or_lower_where_its_interval_leaves_0_out(difference, way):
    level = np.ones((5, 3))
    rows = curves({"deimos": level, "random": level + np.array(difference)})
    d = np.array(difference)
    half = 4.303 * d.std(ddof=1) / 3**0.5
    said = f"{d.mean():+.2g} [{d.mean() - half:+.2g}, {d.mean() + half:+.2g}] (3 repeats)"
    assert archived.less(rows, "random") == (way, said)
