"""The claims as data: complete, well formed, and each checkable."""

import ast
import sys
from pathlib import Path

import pytest

from deimos.report import paper
from deimos.report.judging import CHECKS


def test_the_claims_of_all_notebooks_are_all_the_claims():
    groups = (
        paper.SYNTHETIC_1D,
        paper.SPLICING,
        paper.FACE_AGE,
        paper.MNIST_7_VS_9,
        paper.MNIST_0_TO_9,
        paper.APPENDIX_A,
    )
    assert sum(groups, ()) == paper.CLAIMS
    assert all(len({claim.experiment for claim in group}) == 1 for group in groups)
    assert len(set(paper.CLAIMS)) == len(paper.CLAIMS)


@pytest.mark.parametrize("claim", paper.CLAIMS, ids=lambda claim: f"{claim.where} {claim.says}")
def test_a_claim_can_be_checked_and_shown(claim):
    assert claim.kind in CHECKS
    assert set(claim.methods) <= set(paper.METHODS) and claim.methods
    assert claim.paper and "{" not in claim.paper
    assert claim.better in ("lower", "higher")
    assert claim.bounds[0] <= claim.bounds[1]
    assert (claim.threshold is not None) == (claim.kind in ("fewest", "extra"))
    assert claim.horizon > claim.start or claim.kind in ("within", "nugget")
    assert claim.leader in paper.METHODS


def test_numbers_are_shown_as_the_paper_prints_them():
    shown = {claim.paper for claim in paper.CLAIMS}
    assert {"p = 2.1e-278", "p = 6.9e-34", "p < 1e-33", "over 65% more", "16.9", "86%"} <= shown
    assert {"p = 4.4e-11", "p = 1.9e-11", "p < 0.008", "p < 0.009", "0.99999 to 1"} <= shown
    assert "DEIMOS 109, Max. variance 318, Random 180" in shown


def test_the_two_tables_support_the_sentences_written_about_them():
    extra = {t: min(v for m, v in row.items() if m != "deimos") / row["deimos"] - 1
             for t, row in paper.TABLE_1.items()}  # fmt: skip
    assert extra[0.10] > 0.65 and extra[0.095] >= 0.75
    for table in (paper.TABLE_1, paper.TABLE_2):
        assert all(row["deimos"] == min(row.values()) for row in table.values())
    assert sum(map(len, paper.TABLE_1.values())) == 12
    assert sum(map(len, paper.TABLE_2.values())) == 20


def test_the_paper_as_data_needs_nothing_but_the_standard_library():
    tree = ast.parse(Path(paper.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported <= set(sys.stdlib_module_names)
