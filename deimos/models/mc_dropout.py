"""Monte-Carlo dropout: the model's predictions as samples from its posterior (§3.2).

The covariance needs **the same J masks for every point**: then prediction j of all points comes
from one and the same thinned network, and columns can be correlated. Test scores and the
single-point baselines use fresh masks for every point and pass instead, as the authors did.

Axes:  J dropout masks · S sample points · d features · c outputs (1 in regression)
"""

import warnings
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Num
from torch import Tensor

from deimos.models.networks import Network

SPACES = ("probabilities", "logits")  # in which predictions of classes may be
# In the input of one trunk pass, of at most 4,096 points: bounds memory
TRUNK_NUMBERS_AT_ONCE = 2**25
MASKED_AT_ONCE = 2**26  # features in the passes that a GPU makes at once; a processor makes one


def draw_masks(
    network: Network, shape: Sequence[int], generator: torch.Generator
) -> list[Float[Tensor, "*shape _"]]:
    """An inverted-dropout mask per dropout layer: each unit 0 with probability p, else 1/(1−p)."""
    keep = 1 - network.p
    device = generator.device
    # Three times as fast as bernoulli_ on a CPU.
    return [
        torch.rand(*shape, d, generator=generator, device=device).lt_(keep).div_(keep)
        for d in network.dropout_widths
    ]


@torch.no_grad()
def trunk_features(network: Network, x: Num[Tensor, "S *input"]) -> Float[Tensor, "S d"]:
    """The trunk once per point, in chunks: all that Monte-Carlo sampling needs of the input.

    Where a GPU has no memory for them, in smaller ones.
    """
    at_once = min(4096, max(1, TRUNK_NUMBERS_AT_ONCE // x[0].numel()))
    while True:
        try:
            return torch.cat([network.features(chunk) for chunk in x.split(at_once)])
        except torch.OutOfMemoryError:
            at_once = min(at_once, len(x)) // 2
            if at_once == 0:
                raise
            warnings.warn("out of memory: features are computed in smaller parts", stacklevel=2)


@torch.no_grad()
def predict_shared(
    network: Network,
    features: Float[Tensor, "S d"],
    masks: Sequence[Float[Tensor, "J _"]],
    space: str = "probabilities",
) -> Float[Tensor, "J S c"]:
    """Predictions with masks shared by all points; mask j of every layer makes pass j (eq. 3).

    Those of classes are in one of two spaces: "probabilities", or "logits", which have no bounds
    (§3.4). ValueError for another.
    """
    if space not in SPACES:
        raise ValueError(f"got {space=}, wanted {' or '.join(SPACES)}")
    shared = [mask.unsqueeze(1).split(_at_once(features)) for mask in masks]  # [j 1 d] each
    passes = [_outputs(network, features, some, space) for some in zip(*shared, strict=True)]
    return torch.cat(passes)


@torch.no_grad()
def predict_fresh(
    network: Network, features: Float[Tensor, "S d"], n_passes: int, generator: torch.Generator
) -> Float[Tensor, "J S c"]:
    """Predictions with a mask of its own for every point and pass: variances, no covariances."""
    return torch.cat(list(_fresh_passes(network, features, n_passes, generator)))


@torch.no_grad()
def predictive_mean(
    network: Network, features: Float[Tensor, "S d"], n_passes: int, generator: torch.Generator
) -> Float[Tensor, "S c"]:
    """The mean of `n_passes` fresh-mask predictions: the model's answer, as it is scored."""
    total = torch.zeros(len(features), network.n_outputs, device=features.device)
    for predictions in _fresh_passes(network, features, n_passes, generator):
        total += predictions.sum(0)
    return total / n_passes


@torch.no_grad()
def embeddings(network: Network, features: Float[Tensor, "S d"]) -> Float[Tensor, "S h"]:
    """Penultimate activations without dropout, where k-Center measures distances."""
    return network.head(features)[1]


def mean_variance(predictions: Float[Tensor, "J S c"]) -> float:
    """Average dropout variance over points and outputs (σ̄² of App. E)."""
    return predictions.double().var(dim=0).mean().item()


def batch_diversity(probabilities: Float[Tensor, "b c"], smallest: float = 1e-12) -> float:
    """Average symmetric KL divergence over the pairs of a batch (Fig. 3 d, e); NaN for one point.

    The paper leaves the details open. Here it is KL(p‖q) + KL(q‖p) = Σ (p − q)(log p − log q), in
    nats, of the Monte-Carlo mean probabilities before the acquisition, clipped below at `smallest`.
    """
    p = probabilities.double().clamp_min(smallest)
    # Σ_pairs Σ_c (p − q)(log p − log q) over ordered pairs = 2 (b Σ p log p − Σ_c Σ p · Σ log p)
    b, log_p = len(p), p.log()
    ordered = 2 * (b * (p * log_p).sum() - (p.sum(0) * log_p.sum(0)).sum())
    return (ordered / (b * (b - 1))).item() if b > 1 else float("nan")


def confident_share(probabilities: Float[Tensor, "b c"], confident: float = 0.99) -> float:
    """Share of a batch's diversity that confident pairs of different classes make (§5.3).

    A point is predicted confidently if one class has more than `confident` of its mean probability,
    where the paper speaks of very low predictive uncertainty. 0 for a batch without diversity.
    """
    top, classes = probabilities.double().max(1)
    of_class = [(top > confident) & (classes == k) for k in range(probabilities.shape[1])]

    def summed(chosen: Tensor) -> float:  # the divergences of all pairs of these points
        b = len(chosen)
        return batch_diversity(chosen) * b * (b - 1) if b > 1 else 0.0

    within = sum(summed(probabilities[members]) for members in of_class)
    across, whole = summed(probabilities[top > confident]) - within, summed(probabilities)
    return across / whole if whole > 0 else 0.0


def _fresh_passes(
    network: Network, features: Tensor, n_passes: int, generator: torch.Generator
) -> Iterator[Float[Tensor, "j S c"]]:
    for done in range(0, n_passes, _at_once(features)):
        j = min(_at_once(features), n_passes - done)
        yield _outputs(network, features, draw_masks(network, (j, len(features)), generator))


def _at_once(features: Float[Tensor, "S d"]) -> int:
    """Passes that are made at once."""
    return max(1, MASKED_AT_ONCE // features.numel()) if features.is_cuda else 1


def _outputs(
    network: Network,
    features: Float[Tensor, "S d"],
    masks: Sequence[Float[Tensor, "j _ _"]],
    space: str = "probabilities",
) -> Float[Tensor, "j S c"]:
    output, _ = network.head(features, masks)
    as_it_is = space == "logits" or not network.classifies
    return output if as_it_is else torch.softmax(output, dim=-1)
