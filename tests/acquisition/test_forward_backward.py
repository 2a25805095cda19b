"""Forward–backward selection drops what the covariance matrix itself says is missed least."""

import pytest
import torch

from deimos.acquisition.forward_backward import forward_backward
from deimos.expected_improvement import covariance, greedy_batch, select, variance_removed

APPENDIX_A = torch.tensor([[9.0, 3, 2], [3, 2, 3], [2, 3, 9]]).double()  # the paper's example


def predicted(c, S=18, J=12):
    g = torch.Generator().manual_seed(c)
    scale = 0.2 + torch.rand(S, c, generator=g).double()
    answers = scale * torch.randn(J, S, c, generator=g).double()
    return answers.softmax(-1) if c > 1 else answers


def plainly(V, candidates, batch_size, smoothing):
    """Twice the batch by Algorithm 1, then the least missed goes, by conditioning V anew."""
    batch = greedy_batch(V, candidates, min(2 * batch_size, len(candidates)), smoothing).tolist()
    while len(batch) > batch_size:
        without = [
            variance_removed(V, batch[:k] + batch[k + 1 :], smoothing) for k in range(len(batch))
        ]
        del batch[max(range(len(batch)), key=without.__getitem__)]
    return batch


@pytest.mark.parametrize("batch_size", [1, 4, 9])
@pytest.mark.parametrize("c", [1, 2, 4])
@pytest.mark.parametrize(
    ("noise", "smoothing"), [(0.02, 0.0), (1e-4, 0.0), (0.0, 0.02), (0.0, 1e-4)]
)
def test_it_is_what_conditioning_on_every_smaller_batch_leaves(c, batch_size, noise, smoothing):
    predictions, candidates = predicted(c), torch.arange(2, 16)
    V = covariance(predictions, noise)
    found = forward_backward(predictions, candidates, batch_size, noise, smoothing)
    assert found.tolist() == plainly(V, candidates, batch_size, smoothing)


def test_it_finds_the_best_pair_of_the_printed_example_where_greed_does_not():
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double()
    root = torch.linalg.cholesky(APPENDIX_A - 1e-3 * torch.eye(3))
    predictions = (0.75**0.5 * signs @ root.T)[..., None]  # the nugget is the rest of the diagonal
    torch.testing.assert_close(covariance(predictions, 1e-3)[:, 0, :, 0], APPENDIX_A)
    assert 1 in select(predictions, torch.arange(3), 2, noise=1e-3)
    kept = forward_backward(predictions, torch.arange(3), 2, noise=1e-3)
    assert sorted(kept.tolist()) == [0, 2]


def test_of_points_missed_equally_the_earlier_picks_stay():
    alike = torch.full((5, 9, 2), 0.5)
    assert forward_backward(alike, torch.tensor([7, 2, 4, 3]), 2, noise=0.1).tolist() == [2, 3]


def test_without_a_nugget_it_is_refused():
    with pytest.raises(ValueError, match="needs noise or smoothing above 0"):
        forward_backward(predicted(1), torch.arange(4), 2)


def test_a_batch_larger_than_the_candidates_is_refused():
    with pytest.raises(ValueError, match="got batch size 5, wanted 1 to 4"):
        forward_backward(predicted(1), torch.arange(4), 5, noise=0.1)
