"""One round on files of one's own: fit, validate, pick, and see what the batch is worth.

Two networks are fitted side by side: one without the validation points, which says how good the
model is, and one with all labels, which picks. Points that are labelled already count in the
covariance and are not picked; with a target population it alone counts.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from deimos.acquisition.fast_selection import batch_improvement
from deimos.experiment.iteration import evaluate, fit_on_labels
from deimos.experiment.runs import Streams
from deimos.label_next.labels import Labels, held_out
from deimos.label_next.networks import Settings
from deimos.label_next.points import Points
from deimos.label_next.repeats import already_labelled
from deimos.models import mc_dropout
from deimos.models.networks import Network
from deimos.models.training import Fit
from deimos.pool import select_batch as own_pool
from deimos.progress import progress
from deimos.tasks.task import Task

RANDOM_BATCHES = 5  # that the batch is compared with
VALIDATION_PASSES = 100
SHOWN_POINTS = 1_500  # points of the pool in the picture


@dataclass(frozen=True)
class BatchComparison:
    """A number of the batch, and its mean over random batches of the same size."""

    name: str
    picked: float
    random: float


@dataclass(frozen=True)
class PlaneView:
    """Points in the plane of their two main directions, as the network sees them."""

    pool: Float[np.ndarray, "n 2"]
    labelled: Float[np.ndarray, "N 2"]
    picked: Float[np.ndarray, "b 2"]


@dataclass(frozen=True)
class Round:
    """Result of a round: positions count the rows of the pool as it was read."""

    positions: tuple[int, ...]
    gains: tuple[float, ...]  # in units of the labels, squared
    metric: str
    score: float
    naive: float  # the score of always saying the commonest class, or the mean
    n_validation: int
    n_open: int  # points of the pool without a label
    comparisons: tuple[BatchComparison, ...]
    answers: Float[np.ndarray, "b c"]  # what the model says of the picks, before their labels
    spread: Float[np.ndarray, " b"]  # its sd by dropout, averaged over the outputs
    picture: PlaneView

    def share(self) -> tuple[float, ...]:
        """Each pick's expected improvement in units of the first one's."""
        return own_pool.Selection(self.positions, self.gains).share()


@dataclass(frozen=True)
class Wanted:
    """The batch that is asked for, and how it is to be picked."""

    batch_size: int
    n_masks: int = 50
    noise: float | None = None  # variance of a label, in its own units; else a share of the model's
    sample: int | None = None  # points of the pool to pick from, at random; else all
    validation: float = 0.2  # share of the labelled points that is held out
    seed: int = 0
    precision: str = "float32"  # of the products in the trunk's fits


def run_round(
    pool: Points,
    labelled: Points,
    labels: Labels,
    settings: Settings,
    wanted: Wanted,
    matters: Points | None = None,
) -> Round:
    """Fit on the labelled points and pick from those of the pool that have no label."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    open_rows = rows_without_label(pool, labelled, wanted.batch_size)
    streams = Streams(wanted.seed, 1, len(labelled.x), device)
    task, unit, centre = to_task(labelled, labels, settings, wanted.validation, streams)
    scale = standard([pool.x, labelled.x]) if pool.kind == "vectors" else lambda x: x
    task = replace(task, x=scale(task.x), test_x=scale(task.test_x)).to(device)
    network, score, naive = fit_and_validate(task, settings, streams, unit, wanted.precision)
    left = pool.x[open_rows]
    found = predict_sample(network, scale, left, labelled.x, matters, unit, wanted)
    batch = found.pick(wanted.batch_size)
    rows = open_rows[list(batch.positions)]
    at = torch.searchsorted(found.rows, torch.tensor(batch.positions))
    answers, rng = found.predictions[:, at].double(), streams.numpy("random batches")

    def look(x: Tensor) -> Float[Tensor, "S h"]:
        features = mc_dropout.trunk_features(network, scale(x).to(device))
        return mc_dropout.embeddings(network, features).double().cpu()

    return Round(
        positions=tuple(rows.tolist()),
        gains=tuple(gain * unit**2 for gain in batch.expected_improvement),
        metric="accuracy" if labels.classes else "rmse",
        score=score,
        naive=naive,
        n_validation=len(task.test_x),
        n_open=len(open_rows),
        comparisons=compared(found, batch, at, lambda S: look(left[S]), rng),
        answers=(answers.mean(0) * unit + centre).numpy(),
        spread=(answers.std(0).mean(1) * unit).numpy(),
        picture=project_to_plane(look, left, labelled.x, pool.x[rows], rng),
    )


def rows_without_label(pool: Points, labelled: Points, batch_size: int) -> Int[Tensor, " n"]:
    """Rows of the pool that are not labelled yet; ValueError if they are fewer than the batch."""
    open_rows = (~already_labelled(pool, labelled)).nonzero().squeeze(1)
    if len(open_rows) < batch_size:
        raise ValueError(
            f"a batch of {batch_size} cannot be picked: of the pool's {len(pool.x):,} points "
            f"{len(open_rows):,} are not labelled yet"
        )
    return open_rows


def predict_sample(
    network: Network,
    scale: Callable[[Tensor], Tensor],
    left: Num[Tensor, "n *input"],
    labelled: Num[Tensor, "N *input"],
    matters: Points | None,
    unit: float,
    wanted: Wanted,
) -> own_pool.Sample:
    """Predictions of the points that are left, to pick from, and of those that matter beside them.

    These are the labelled ones, unless a population that `matters` takes the place of all.
    """
    beside, target = range(len(left), len(left) + len(labelled)), None
    if matters is not None:
        beside, labelled, target = (), labelled[:0], scale(matters.x)
    return own_pool.prepare(
        network,
        scale(torch.cat([left, labelled])),
        labelled=beside,
        target=target,
        sample=wanted.sample,
        n_masks=wanted.n_masks,
        noise=None if wanted.noise is None else wanted.noise / unit**2,
        seed=wanted.seed,
    )


def to_task(
    labelled: Points, labels: Labels, settings: Settings, validation: float, streams: Streams
) -> tuple[Task, float, float]:
    """The labelled points as a task; the unit and centre that values were brought to."""
    n = max(1, round(validation * len(labels.y)))
    out = held_out(labels, n, streams.numpy("validation"))
    if not len(out) or len(labels.y) - len(out) < 2:
        raise ValueError(
            f"{len(labels.y)} labelled points are too few to hold {n} of them out to validate on: "
            f"label three or more, and two of some class"
        )
    y, unit, centre = labels.y, 1.0, 0.0
    if not labels.classes:
        unit, centre = y.std().item() / settings.spread, y.mean().item()
        y = (y - centre) / unit
    task = Task(
        name="own-pool",
        x=labelled.x,
        y=y,
        train_ids=torch.arange(len(y))[~torch.isin(torch.arange(len(y)), out)],
        test_x=labelled.x[out],
        test_y=y[out],
        n_classes=max(1, len(labels.classes)),
        source="own files",
        checksum=labelled.checksum,
    )
    return task, unit, centre


def standard(parts: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Every feature less its mean, over its sd: features come in units of their own."""
    n = sum(map(len, parts))
    mean = sum(part.double().sum(0) for part in parts) / n
    sd = (sum((part.double() - mean).square().sum(0) for part in parts) / n).sqrt()
    mean, sd = mean.float(), torch.where(sd > 0, sd, 1.0).float()
    return lambda x: (x - mean) / sd


def fit_and_validate(
    task: Task, settings: Settings, streams: Streams, unit: float, precision: str
) -> tuple[Network, float, float]:
    """The network that picks, fitted to all labels; the other's score, and the naive one."""
    s = settings
    how = Fit(s.epochs, s.minibatch, s.decay, s.optimiser, precision)
    everything = torch.arange(len(task.x), device=task.x.device)
    steps = [-(-len(ids) // settings.minibatch) for ids in (task.train_ids, everything)]
    with (
        progress(total=settings.epochs * sum(steps), unit="step", name="fitting") as bar,
        ThreadPoolExecutor(
            1 if task.x.is_cuda else 2, initializer=torch.set_num_threads, initargs=(1,)
        ) as threads,
    ):

        def goes_on() -> bool:
            bar.update()
            return False

        def to_those(ids: Int[Tensor, " N"]) -> Network:
            return fit_on_labels(task, settings.build, how, ids, streams, goes_on)

        judged, picking = threads.map(to_those, (task.train_ids, everything))
    scores = evaluate(task, judged, VALIDATION_PASSES, streams)
    if task.n_classes > 1:
        naive = task.y.bincount().max().item() / len(task.y)
        return picking, scores["accuracy"], naive
    naive = (task.test_y - task.y[task.train_ids].mean()).square().mean().sqrt().item()
    return picking, scores["rmse"] * unit, naive * unit


def compared(
    found: own_pool.Sample,
    batch: own_pool.Selection,
    at: Int[Tensor, " b"],
    look: Callable[[Tensor], Tensor],
    rng: np.random.Generator,
) -> tuple[BatchComparison, ...]:
    """The batch against random ones: the variance that it removes, and how diverse it is."""
    classes, weights = found.predictions.shape[2] > 1, found.weights
    variance = found.predictions.double().var(0).sum(1)
    variance += found.noise * found.predictions.shape[2]
    total = (variance if weights is None else weights * variance).sum().item()
    removed = [sum(batch.expected_improvement) / total]
    sets = [at]
    for _ in range(RANDOM_BATCHES):
        drawn = rng.choice(len(found.candidates), len(at), replace=False)
        sets.append(found.candidates[torch.from_numpy(drawn)])
        gain = batch_improvement(found.predictions, sets[-1], found.noise, weights=weights)
        removed.append(gain / total)
    said = "share of the variance that the batch would remove"
    found_out = [BatchComparison(said, removed[0], float(np.mean(removed[1:])))]
    if len(at) > 1:
        apart = [torch.pdist(look(found.rows[some])).mean().item() for some in sets]
        said = "mean distance between two of the batch, as the network sees them"
        found_out.append(BatchComparison(said, apart[0], float(np.mean(apart[1:]))))
    if classes and len(at) > 1:
        means = found.predictions.mean(0)
        nats = [mc_dropout.batch_diversity(means[some]) for some in sets]
        said = "batch diversity (symmetric KL, nats)"
        found_out.append(BatchComparison(said, nats[0], float(np.mean(nats[1:]))))
    return tuple(found_out)


def project_to_plane(
    look: Callable[[Tensor], Tensor],
    pool: Tensor,
    labelled: Tensor,
    picked: Tensor,
    rng: np.random.Generator,
) -> PlaneView:
    """Penultimate activations in the plane of their two largest principal components."""
    some = torch.from_numpy(rng.permutation(len(pool))[:SHOWN_POINTS])
    parts = [look(x) for x in (pool[some], labelled, picked)]
    centre = parts[0].mean(0)
    axes = torch.linalg.svd(parts[0] - centre, full_matrices=False).Vh[:2].T
    axes = torch.nn.functional.pad(axes, (0, 2 - axes.shape[1]))
    return PlaneView(*[((part - centre) @ axes).numpy() for part in parts])
