"""The authors' own numbers: initial sets, and the test scores behind the paper's figures."""

from pathlib import Path

from deimos.extras import extra

with extra("reproduce"):
    import pandas as pd

# Facts read from github.com/unagpal/Active-Learning-Splicing at commit b1d4f3b: the ids that each
# of the three repeats starts from, and the test scores behind the paper's figures and tables.
AUTHORS_INITIAL_SETS = Path(__file__).with_name("initial_sets.json")
AUTHORS_CURVES = Path(__file__).with_name("published_curves.csv.gz")


def published_curves() -> pd.DataFrame:
    """The authors' test scores as a tidy table, up to where the paper's figures and tables look.

    `n_acquired` is the place of a score in the authors' file times the batch size. For 0-9 they
    have batch size 100, the paper has 25.
    """
    return pd.read_csv(AUTHORS_CURVES)
