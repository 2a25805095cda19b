"""One line an experiment, beside what the kept runs decided."""

import pandas as pd
from tables import evidence_of

from deimos import tracking
from deimos.record.results import COLUMNS
from deimos.report import paper, side_by_side, verdicts


def cells(evidence):
    lines = side_by_side.experiment_lines(evidence).set_index("experiment")
    assert len(lines) == 6
    return lines["these runs"], lines["the kept runs"]


def test_a_record_without_runs_says_so_beside_what_the_kept_runs_decided():
    these, kept = cells(evidence_of(pd.DataFrame(columns=[*COLUMNS])))
    assert these["Face age (Fig. 2)"] == "no runs"
    assert these["One dimension (Fig. 1)"] == "7 not tested"
    assert kept["MNIST 7 vs 9 (Fig. 3, B.1, Tab. 2)"].endswith("10 repeats: supported")


def test_the_kept_runs_themselves_say_what_stands_beside_them(kept):
    these, beside = cells(kept["H100"])
    assert these["Face age (Fig. 2)"] == beside["Face age (Fig. 2)"].partition(":")[0]
    assert these["One dimension (Fig. 1)"] == beside["One dimension (Fig. 1)"]
    assert these["5' splicing (Fig. 2 left, Tab. 1)"].endswith("3 repeats, to 478 of 600")


def test_every_claim_has_its_row_beside_the_kept_runs():
    kept = pd.read_csv(side_by_side.KEPT_VERDICTS)
    assert kept.claim.tolist() == [claim.says for claim in paper.CLAIMS]
    assert kept.experiment.tolist() == [claim.experiment for claim in paper.CLAIMS]


def test_the_kept_runs_verdicts_are_those_of_the_runs_that_decide(kept, decided):
    found = side_by_side.verdicts_at(tracking.REFERENCE, kept["H100"])
    rows = [verdicts.row(verdict) for _, verdict in decided]
    assert found.columns.tolist() == [*rows[0], "by"]
    for column in ("where", "claim", "outcome", "ours", "needs", "rests_on"):
        assert found[column].tolist() == [row[column] for row in rows]
    assert found.by.tolist() == [name for name, _ in decided]


def test_at_any_other_scale_the_runs_are_judged_themselves():
    none = evidence_of(pd.DataFrame(columns=[*COLUMNS]))
    found = side_by_side.verdicts_at("quick", none)
    assert set(found.outcome) == {"not tested"} and "by" not in found
