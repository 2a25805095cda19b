"""BatchBALD: the batch whose labels together tell most about the model (Kirsch et al., 2019, §3).

What the labels y_B of a batch tell is which of the J masks holds, and greedily the batch takes the
point that adds most to this:

    I(y_B; j) = H(y_B) − E_j H(y_B | j),    p(y_B) = 1/J Σ_j Π_{i∈B} p_j(y_i).

By the chain rule, what a point adds is the information its label still carries once a
configuration ŷ of the batch's labels is known, averaged over configurations:

    gain(i) = E_ŷ[ H(Σ_j w_j p_j(y_i)) − Σ_j w_j H(p_j(y_i)) ],    w_j = p(j | ŷ) ∝ Π_B p_j(ŷ).

The average is over all c^|B| configurations while they are few enough, over a random sample after
that, whose mean is the same as that of their estimate of H(y_B, y_i). What differs: w is a softmax
of sums of logarithms, so nothing underflows; every term lies between 0 and what ŷ leaves unknown,
so there is less noise, and J masks never seem to tell more than log₂ J bits.

Axes:  J dropout masks · S sample points · c classes · n candidates · b batch size
       m configurations of the labels of the batch so far
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.beliefs import Beliefs, checked_candidates, entropy

SMALLEST = 1e-30  # stands for a probability of 0, whose logarithm would be infinite
GAIN_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}  # nats that rounding may cost a gain
ROWS = 1024  # configurations whose labels are drawn at a time
# Configurations × labels worked on at a time
BLOCK_SHAPES = {"cpu": (512, 256), "cuda": (4096, 16384)}


def batchbald(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, n_configurations: int = 10_000
) -> Int[Tensor, " b"]:
    """The batch that tells most about the masks, greedily; these must be shared by all points."""
    return batchbald_with_information(beliefs, batch_size, rng, n_configurations)[0]


@torch.no_grad()
def batchbald_with_information(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, n_configurations: int = 10_000
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """The batch in the order of picking, and I(y_B; j) in bits after each of its points.

    While there are at most `n_configurations` they are enumerated; after that so many are drawn,
    rounded up to a multiple of J. Gains that rounding cannot tell apart are ties: the lowest wins.
    """
    candidates, P = _probabilities(beliefs, batch_size, n_configurations)
    J, _, c = P.shape
    H = entropy(P)
    n_each = math.ceil(n_configurations / J)  # configurations drawn from each mask
    log_joint = P.new_zeros(1, J)  # log Π_{i∈B} p_j(ŷ_i): one configuration, of no label
    weights = P.new_ones(1)
    dtype = torch.float64
    picked, information = [], []
    while True:
        known, gain = gains(log_joint.softmax(1), weights, P, H, dtype)
        gain[picked] = -torch.inf
        best = (gain >= gain.max() - GAIN_TOLERANCE[dtype]).nonzero()[0].item()
        picked.append(best)
        information.append(known + gain[best])
        if len(picked) == batch_size:
            return candidates[picked], torch.stack(information) / math.log(2)

        new = [best]
        if c ** len(picked) <= n_configurations:
            log_joint = (log_joint[:, None] + P[:, best].T.log()).flatten(0, 1)
            weights = log_joint.logsumexp(1).exp() / J
            continue
        if dtype == torch.float64:  # sampling begins
            new, dtype = picked, torch.float32
            log_joint = P.new_zeros(J * n_each, J)
            weights = torch.full_like(log_joint[:, 0], 1 / len(log_joint))
        for i in new:
            log_joint = log_joint + P[:, i].log()[:, draw_labels(P[:, i], n_each, rng)].T


@torch.no_grad()
def batchbald_authors(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, n_configurations: int = 10_000
) -> Int[Tensor, " b"]:
    """The batch by the authors' estimator, which draws its configurations anew at every pick.

    After the first point, BALD's, the one is picked that has the largest

        mean_ŷ H(Σ_j w_j p_j(y_i)) − mean_j H(p_j(y_i)),

    over independent draws of a mask and of labels from it. That is `gains` and, beside it, what the
    masks' shares in the draws are off 1/J: once the masks are told apart this noise alone is left,
    and it favours points whose entropy differs between masks, uncertain ones on the whole.
    """
    candidates, P = _probabilities(beliefs, batch_size, n_configurations)
    H, log_P = entropy(P), P.log()
    picked: list[int] = []
    while True:
        w = log_joint_anew(P, log_P, picked, n_configurations, rng).softmax(1)
        dtype = torch.float32 if picked else torch.float64
        weights = torch.full_like(w[:, 0], 1 / len(w))
        _, gain = gains(w, weights, P, H, dtype)
        score = gain + (weights @ w - 1 / len(P)) @ H
        score[picked] = -torch.inf
        picked.append((score >= score.max() - GAIN_TOLERANCE[dtype]).nonzero()[0].item())
        if len(picked) == batch_size:
            return candidates[picked]


def log_joint_anew(
    P: Float[Tensor, "J n c"],
    log_P: Float[Tensor, "J n c"],
    picked: list[int],
    n_configurations: int,
    rng: np.random.Generator,
) -> Float[Tensor, "m J"]:
    """log Π_{i∈B} p_j(ŷ_i) of configurations drawn now, a mask each; of no point a single one."""
    J, _, c = P.shape
    if not picked:
        return P.new_zeros(1, J)
    masks = torch.from_numpy(rng.integers(J, size=n_configurations)).to(P.device)
    u = torch.from_numpy(rng.random((n_configurations, len(picked)))).to(P.device)
    cumulative = P[:, picked].cumsum(2)
    labels = [
        (cumulative[j, :, :-1] <= v[..., None] * cumulative[j, :, -1:]).sum(2)
        for j, v in zip(masks.split(ROWS), u.split(ROWS), strict=True)
    ]
    rows = torch.cat(labels) + c * torch.arange(len(picked), device=P.device)
    of_labels = log_P[:, picked].permute(1, 2, 0).flatten(0, 1)  # a row for each point and label
    return torch.nn.functional.embedding_bag(rows, of_labels, mode="sum")


def _probabilities(
    beliefs: Beliefs, batch_size: int, n_configurations: int
) -> tuple[Int[Tensor, " n"], Float[Tensor, "J n c"]]:
    """The candidates and their class probabilities, none of them 0; ValueError if they are none."""
    candidates = checked_candidates(beliefs, batch_size)
    if n_configurations < 1:
        raise ValueError(f"got {n_configurations=}, wanted 1 or more")
    if not (beliefs.predictions.sum(-1) - 1).abs().max() <= 1e-3:
        raise ValueError("got predictions that do not sum to 1, wanted class probabilities")
    return candidates, beliefs.predictions[:, candidates].double().clamp_min_(SMALLEST)


def saturation(information: Float[Tensor, " b"], n_masks: int) -> int | None:
    """Number of points that bring a batch within 1 % of log₂ J bits; None if it never gets there.

    J masks have no more to tell: the points after that are picked for next to nothing.
    """
    full = (information >= 0.99 * math.log2(n_masks)).nonzero()
    return full[0].item() + 1 if len(full) else None


def gains(
    w: Float[Tensor, "m J"],
    weights: Float[Tensor, " m"],
    P: Float[Tensor, "J n c"],
    H: Float[Tensor, "J n"],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
    """I(y_B; j) = log J − E_ŷ H(w), and what each point would add to it; in nats.

    What a configuration leaves unknown bounds its term of every gain. So those that leave nothing
    are passed over, and they are most of them once the batch saturates.
    """
    unknown = weights * entropy(w)
    some = unknown * len(w) > GAIN_TOLERANCE[dtype]
    w, weights = w[some], weights[some]
    gain = expected_entropy(w.to(dtype), weights.to(dtype), P.to(dtype)) - weights @ w @ H
    return math.log(len(P)) - unknown.sum(), gain


def expected_entropy(
    w: Float[Tensor, "m J"], weights: Float[Tensor, " m"], P: Float[Tensor, "J n c"]
) -> Float[Tensor, " n"]:
    """E_ŷ H(Σ_j w_j p_j(y)) of every point: a matrix product and its logarithms, block by block."""
    configurations, labels = BLOCK_SHAPES[P.device.type]
    total = torch.zeros_like(P[0], dtype=torch.float64).flatten()

    def add(p: Float[Tensor, "J labels"], part: Float[Tensor, " labels"]) -> None:
        for start in range(0, len(w), configurations):
            q = w[start : start + configurations] @ p
            part -= weights[start : start + configurations] @ q.log().mul_(q)

    # Blocks are too small to be shared between cores: each is one core's, and waits for no other.
    workers = torch.get_num_threads() if P.device.type == "cpu" else 1
    with ThreadPoolExecutor(workers, "", torch.set_num_threads, (1,)) as pool:
        list(pool.map(add, P.flatten(1).split(labels, 1), total.split(labels)))
    return total.view(P.shape[1:]).sum(1)


def draw_labels(
    p: Float[Tensor, "J c"], n_each: int, rng: np.random.Generator
) -> Int[Tensor, " m"]:
    """A point's labels, `n_each` from every mask in turn, as evenly as chance allows.

    Latin hypercube sampling: one draw from each of `n_each` equal parts of the distribution.
    """
    strata = rng.permuted(np.tile(np.arange(n_each), (len(p), 1)), axis=1)
    u = torch.from_numpy((strata + rng.random(strata.shape)) / n_each).to(p)  # [J n_each]
    cumulative = p.cumsum(1)
    below = cumulative[:, None, :-1] <= u[..., None] * cumulative[:, None, -1:]
    return below.sum(-1).flatten()
