"""What the kept runs say, and how often the rules would be wrong on runs such as these."""

import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from tables import evidence_of

from deimos import stats, tracking
from deimos.models import mc_dropout
from deimos.report import paper
from deimos.report.findings import subject
from deimos.report.judging import judge
from deimos.report.method_checks import difference


def outcomes(evidence, *, where=None, says=None, methods=None):
    claims = [
        claim
        for claim in paper.CLAIMS
        if (where is None or claim.where == where)
        and (says is None or claim.says == says)
        and (methods is None or claim.methods == methods)
    ]
    return {verdict.claim.methods: verdict.outcome for verdict in judge(claims, evidence)}


def test_three_repeats_do_not_tell_deimos_from_batchbald_and_ten_do(kept):
    says = "DEIMOS improves upon BatchBALD"
    assert outcomes(kept["H100"], says=says) == {("batchbald",): "undecided"}
    assert outcomes(kept["CPU"], says=says) == {("batchbald",): "undecided"}
    assert outcomes(kept["CPU, bfloat16"], says=says) == {("batchbald",): "supported"}


def test_ten_repeats_tell_deimos_from_robust_k_center_and_show_it_ahead_of_random_throughout(kept):
    assert outcomes(kept["H100"], where="Fig. 3 a")[("k_center",)] == "undecided"
    ten = outcomes(kept["CPU, bfloat16"], where="Fig. 3 a")
    assert ten == {("random",): "supported", ("k_center",): "supported"}
    says = "DEIMOS is better than Random throughout"
    assert outcomes(kept["H100"], says=says) == {("random",): "undecided"}
    assert outcomes(kept["CPU, bfloat16"], says=says) == {("random",): "supported"}


def test_ten_repeats_tell_deimos_from_max_entropy_on_ten_digits_and_not_from_random(kept):
    claims = [claim for claim in paper.MNIST_0_TO_9 if claim.where == "Fig. 3 b"]
    judged = judge(claims, kept["CPU, bfloat16"])
    found = {(v.claim.methods, v.outcome, v.repeats) for v in judged}
    assert found == {(("random",), "undecided", 10), (("max_entropy",), "supported", 10)}


def test_of_five_methods_ten_repeats_have_batchbald_ahead_early_on_of_max_entropy_alone(decided):
    says = "BatchBALD slightly outperforms the others early on"
    ((name, found),) = [(name, v) for name, v in decided if v.claim.says == says]
    assert (name, found.outcome, found.repeats) == ("CPU (EPYC), bfloat16", "undecided", 10)
    told = {one.method for one in found.finding.comparisons if one.outcome == "supported"}
    assert told == {"max_entropy"} and len(found.finding.comparisons) == 4


def test_one_by_one_four_repeats_tell_random_and_k_center_from_deimos_and_ten_not_max_entropy(kept):
    table_2 = [c for c in paper.MNIST_7_VS_9 if c.where == "Tab. 2" and c.kind == "outperforms"]
    by_method = {v.claim.methods[0]: v for v in judge(table_2, kept["CPU, bfloat16"])}
    assert by_method["random"].outcome == by_method["k_center"].outcome == "supported"
    assert by_method["random"].reasons == ("over the first 100 of 200 acquisitions",)
    assert {by_method[name].repeats for name in ("random", "k_center")} == {4}
    ten = by_method["max_entropy"]
    assert (ten.outcome, ten.repeats) == ("undecided", 10)
    three = {v.claim.methods[0]: v.outcome for v in judge(table_2, kept["H100"])}
    assert three["random"] == three["k_center"] == "undecided"


def test_one_by_one_on_another_processor_ten_repeats_tell_deimos_from_all_four(kept):
    """Of maximum entropy the two processors see one difference, and one of them alone tells it."""
    table_2 = [c for c in paper.MNIST_7_VS_9 if c.where == "Tab. 2" and c.kind == "outperforms"]
    judged = judge(table_2, kept["CPU (EPYC), bfloat16"])
    assert {(v.outcome, v.repeats) for v in judged} == {("supported", 10)}
    effects = {}
    for name in ("CPU, bfloat16", "CPU (EPYC), bfloat16"):
        by_method = {v.claim.methods[0]: v.deciding for v in judge(table_2, kept[name])}
        effects[name] = by_method["max_entropy"].effect
    there, here = effects.values()
    assert here == pytest.approx(there, rel=0.05)


def test_three_repeats_have_deimos_at_a_score_first_and_ten_have_max_entropy_there_with_it(kept):
    says = "DEIMOS reaches 0.95 with the fewest acquisitions"
    (claim,) = [claim for claim in paper.MNIST_7_VS_9 if claim.says == says]
    (three,), (ten,) = (judge([claim], kept[s]) for s in ("H100", "CPU (EPYC), bfloat16"))
    assert (three.outcome, three.finding.share) == ("supported", 1.0)
    assert (ten.outcome, ten.repeats, ten.finding.unsettled) == ("undecided", 10, 0)
    reached = dict(ten.finding.reached)
    assert (
        reached["max_entropy"]
        == reached["deimos"]
        < min(n for method, n in reached.items() if method not in ("deimos", "max_entropy"))
    )


def test_ten_repeats_tell_probabilities_from_logits_on_both_sets_of_digits(kept):
    claims = [c for c in (*paper.MNIST_7_VS_9, *paper.MNIST_0_TO_9) if c.where == "§3.4"]
    judged = judge(claims, kept["CPU, bfloat16"])
    assert [(one.outcome, one.repeats) for one in judged] == 2 * [("supported", 10)]


def test_the_kept_faces_and_digits_decide_what_three_repeats_can(kept):
    ours = kept["H100"]
    right = outcomes(ours, where="Fig. 2 right", methods=("random",))
    assert right[("random",)] == "contradicted"
    centre = {
        v.claim.methods: v.outcome
        for v in judge([c for c in paper.FACE_AGE if c.kind == "outperforms"][:2], ours)
    }
    assert centre == {("max_variance",): "supported", ("random",): "undecided"}
    assert outcomes(ours, where="Fig. 3 b") == {
        ("random",): "undecided",
        ("max_entropy",): "undecided",
    }
    table_2 = [
        c for c in paper.MNIST_7_VS_9 if c.where == "Tab. 2" and c.methods[:1] != ("deimos",)
    ]
    found = {v.claim.methods[0]: v.outcome for v in judge(table_2, ours)}
    assert found["max_entropy"] == "undecided" and found["bald"] == "supported"
    assert set(outcomes(ours, where="Fig. 3 e").values()) == {"contradicted"}


@pytest.mark.parametrize("confident", [0.9, 0.99, 0.999])
def test_confident_pairs_make_most_of_randoms_diversity_with_two_classes_and_not_with_ten(
    kept, confident
):
    shares = {"mnist-7-vs-9": [], "mnist-0-to-9": []}
    for file in ("mnist-7-vs-9-more.zip", "mnist-0-to-9.zip"):
        path = tracking.REFERENCES / "half-precision" / file
        values, runs = tracking.contents(path)
        random = [run for run in runs.values() if run["params"].get("method") == "random"]
        for run in random:
            with zipfile.ZipFile(path) as archive:
                said = pd.read_csv(archive.open(f"artifacts/{run['origin']}/acquired.csv"))
            answers = said.filter(like="output_").to_numpy()
            batches = [torch.tensor(answers[n : n + 25]) for n in range(0, 500, 25)]
            own = values[(values.run == run["origin"]) & (values.metric == "batch/diversity")]
            diversity = [mc_dropout.batch_diversity(batch) for batch in batches]
            assert own.sort_values("step").value.tolist() == pytest.approx(diversity, rel=1e-8)
            share = np.mean([mc_dropout.confident_share(batch, confident) for batch in batches])
            shares[run["params"]["task"]].append(share)
    assert [len(of_repeats) for of_repeats in shares.values()] == [7, 10]
    (_, two), (_, ten) = map(stats.paired_test, map(np.array, shares.values()))
    assert two[0] > 0.5 > ten[1]


def test_splicing_on_other_data_tests_no_claim_of_the_papers(kept):
    verdicts = judge(paper.SPLICING, kept["H100"])
    assert {verdict.outcome for verdict in verdicts} == {"not tested"}
    assert all("not the paper's data" in verdict.reasons for verdict in verdicts)


def test_supported_is_false_in_at_most_one_null_case_in_forty(kept):
    """Null curves: Gaussian, with the covariance of the kept runs around their method's mean."""
    rng, wrong, total = np.random.default_rng(0), 0, 0
    claims = [c for c in paper.CLAIMS if c.kind == "outperforms" and len(c.methods) == 1]
    for claim in claims:
        rows = subject(claim, kept["H100"].table)
        rows = rows[rows.n_acquired <= claim.horizon]
        if claim.methods[0] not in set(rows.method):
            continue
        wide = rows.pivot(index=["method", "repeat"], columns="n_acquired", values="value")
        wide = wide.dropna(axis=1)
        residuals = (wide - wide.groupby(level="method").transform("mean")).to_numpy()
        for _ in range(150):
            means = (rng.standard_normal((2, 3, len(residuals))) @ residuals).mean(axis=-1)
            d = means[0] - means[1]
            test = stats.RunLevel("random", "deimos", d.mean(), tuple(d), *stats.paired_test(d))
            sign = 1 if claim.better == "lower" else -1
            wrong, total = wrong + (difference(test, None, sign) == "supported"), total + 1
    assert total >= 2_000 and wrong / total <= 0.025 + 2 * (0.025 * 0.975 / total) ** 0.5


def test_the_papers_own_test_stands_beside_with_its_false_positives(kept):
    claims = [c for c in paper.MNIST_7_VS_9 if c.where == "Fig. 3 a"]
    ones = [verdict.deciding for verdict in judge(claims, kept["H100"])]
    assert [f"{one.printed_test.p_value:.1e}" for one in ones] == ["1.0e-06", "1.2e-03"]
    assert all(0.05 < one.false_positives < 0.3 for one in ones)


def test_the_runs_with_most_repeats_decide_a_claim(decided):
    digits = [(name, v.claim) for name, v in decided if v.claim.experiment == "mnist-7-vs-9"]
    by = {(claim.where, claim.says): name for name, claim in digits}
    assert by["§5.3", "DEIMOS improves upon BatchBALD"] == "CPU, bfloat16"
    assert by["Fig. 3 a", "DEIMOS outperforms Robust k-Center"] == "CPU, bfloat16"
    for says in ("outperforms BALD", "reaches 0.95 with the fewest acquisitions"):
        assert by["Tab. 2", f"DEIMOS {says}"] == "CPU (EPYC), bfloat16"
    assert by["§5.3", "A fourth of random's data suffices to reach 0.97"] == "H100"


def test_methods_that_are_compared_began_with_the_same_network_to_the_last_bit(kept):
    """Else they ran on processors that round otherwise, and no repeat's luck is shared."""
    for name, evidence in kept.items():
        table = evidence.table
        scores = table[(table.n_acquired == 0) & table.metric.isin(["accuracy", "mse", "rmse"])]
        assert len(scores), name
        starts = scores.groupby(["experiment", "batch_size", "metric", "repeat"]).value.nunique()
        assert (starts == 1).all(), (name, starts[starts > 1])


def test_seconds_are_those_of_one_commit(decided):
    (time,) = [
        (name, verdict.origin.commits)
        for name, verdict in decided
        if (verdict.claim.metric, verdict.claim.experiment) == ("acquire_seconds", "mnist-7-vs-9")
    ]
    assert time[0] == "CPU" and len(time[1]) == 1


def test_evidence_of_an_archive_is_what_the_record_shows_of_it(kept, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    from deimos.record import archive

    file = tracking.REFERENCES / "half-precision" / "mnist-7-vs-9.zip"
    archive.read_archive(file)
    record, direct = tracking.evidence("paper"), tracking.of_archives([file])
    pd.testing.assert_frame_equal(record.table, direct.table)
    assert record.origins == direct.origins


def test_two_runs_of_a_member_are_refused():
    file = tracking.REFERENCES / "simulations.zip"
    with pytest.raises(ValueError, match="two runs of deimos, repeat 1"):
        tracking.of_archives([file, file])


def test_other_data_hide_the_authors_curves():
    table = pd.DataFrame({"experiment": ["face-age"]})
    assert set(evidence_of(table).published.experiment) > {"face-age"}
    assert "face-age" not in set(evidence_of(table, stand_in=True).published.experiment)
