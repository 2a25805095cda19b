"""Fits of a fleet as the loop makes them, against plain eager PyTorch, one net after another.

The plain twin is what a reader of the paper would write: the whole input, layers in their default
memory order, `nn.Dropout`, `torch.optim`, every core on one net. Both train the same networks on
the same number of points for the same number of steps, each in a process of its own, ours with the
environment that notebooks are executed in; the rounds alternate, and one of ours is in half
precision. With --full there are as many members as the paper's experiments have; on a GPU faces
take part.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measured import Row, fresh, seconds
from deimos.execution import notebooks
from deimos.models import networks, training
from deimos.models.fleet_training import FitStart, fit_fleet

N, MINIBATCH, DECAY = 510, 128, 0.01
# On a GPU more, since a fit begins with the recording of its steps: the paper's have 300.
EPOCHS = 100 if torch.cuda.is_available() else 4
REPEATS = 3  # whose methods share random streams, as in the paper's fleets


def digits(channels: int, n_classes: int, p: float) -> nn.Sequential:
    convolutions = nn.Conv2d(1, channels, 4), nn.ReLU(), nn.Conv2d(channels, channels, 4, stride=2)
    features = *convolutions, nn.ReLU(), nn.MaxPool2d(3), nn.Flatten()
    return nn.Sequential(*features, *dense(9 * channels, 128, n_classes, p))


def sequences() -> nn.Sequential:
    first = nn.Conv1d(4, 101, 4), nn.ReLU(), nn.MaxPool1d(3)
    second = nn.Conv1d(101, 50, 4), nn.ReLU(), nn.MaxPool1d(3)
    return nn.Sequential(*first, *second, nn.Flatten(), *dense(450, 50, 1, 0.15))


def faces() -> nn.Sequential:
    first = nn.Conv2d(3, 50, 4, stride=2), nn.ReLU(), nn.Conv2d(50, 50, 3, stride=2), nn.ReLU()
    second = nn.Conv2d(50, 100, 3), nn.ReLU(), nn.Conv2d(100, 100, 3), nn.ReLU()
    pooled = *first, nn.MaxPool2d(2), *second, nn.MaxPool2d(3)
    return nn.Sequential(*pooled, nn.Flatten(), *dense(3600, 150, 1, 0.5))


def dense(d: int, h: int, c: int, p: float) -> tuple[nn.Module, ...]:
    return nn.Dropout(p), nn.Linear(d, h), nn.ReLU(), nn.Dropout(p), nn.Linear(h, c)


@dataclass(frozen=True)
class Net:
    build: Callable[[torch.Generator], networks.Network]
    plain: Callable[[], nn.Sequential]
    draw: Callable[[torch.Generator], Tensor]  # the points, as the tasks store them
    prepare: Callable[[Tensor], Tensor]  # what the plain twin is given
    optimiser: str
    members: int  # in the paper's experiment


def pixels(*shape: int) -> Callable[[torch.Generator], Tensor]:
    return lambda g: torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)


def of_digits(build: Callable, channels: int, n_classes: int, p: float) -> Net:
    plain, prepare = partial(digits, channels, n_classes, p), lambda x: x.unsqueeze(1).float()
    return Net(build, plain, pixels(N, 28, 28), prepare, "adam", 15)


NETS = {
    "MNIST 7 vs 9": of_digits(networks.mnist_7_vs_9, 35, 2, 0.30),
    "MNIST 0-9": of_digits(networks.mnist_0_to_9, 40, 10, 0.25),
    "splicing": Net(
        networks.splicing,
        sequences,
        lambda g: torch.randint(0, 4, (N, 101), generator=g, dtype=torch.uint8),
        lambda x: F.one_hot(x.long(), 4).transpose(1, 2).float(),
        "rmsprop",
        9,
    ),
    "face age": Net(
        networks.face_age,
        faces,
        pixels(128, 3, 200, 200),
        lambda x: x.float(),
        "adam",
        9,
    ),
}


def one_by_one(net: Net, x: Tensor, y: Tensor, members: int) -> None:
    for _ in range(members):
        network = net.plain().to(x.device)
        kernels = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
        if net.optimiser == "adam":
            stepper = torch.optim.Adam(network.parameters(), eps=1e-7)
        else:
            stepper = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
        inputs = net.prepare(x)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(x), device=x.device).split(MINIBATCH):
                stepper.zero_grad()
                output = network(inputs[chosen])
                classifies = output.shape[1] > 1
                loss = F.cross_entropy if classifies else F.mse_loss
                error = loss(output if classifies else output.squeeze(1), y[chosen])
                (error + DECAY / len(x) * sum(w.square().sum() for w in kernels)).backward()
                stepper.step()


def fleet(net: Net, x: Tensor, y: Tensor, members: int, precision: str = "float32") -> None:
    """As `loop.active_learning` does it: in step on a GPU, else a thread a member on one core."""
    how = Fit(EPOCHS, MINIBATCH, DECAY, net.optimiser, precision)

    def start(member: int) -> FitStart:
        streams = (member % REPEATS, REPEATS + member % REPEATS)
        order, dropout = (torch.Generator(x.device).manual_seed(seed) for seed in streams)
        network = net.build(torch.Generator().manual_seed(member)).to(x.device)
        return FitStart(network, torch.arange(len(x), device=x.device), order, dropout)

    def fit(member: int) -> None:
        own = start(member)
        training.fit(own.network, x, y, order=own.order, dropout=own.dropout, **vars(how))

    if x.device.type == "cuda":
        fit_fleet(start, members, x, y, how)
        return
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(fit, range(members)))


def once(train: Callable, name: str, members: int) -> float:
    """Seconds that a fleet takes, on data that are there already."""
    net = NETS[name]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    x = net.draw(generator).to(device)
    classes = net.build(generator).n_outputs
    y = torch.randint(0, classes, (len(x),)) if classes > 1 else torch.rand(len(x))
    run = partial(train, net, x, y.to(device), members)
    return seconds(run if device.type == "cpu" else lambda: (run(), torch.cuda.synchronize()))


def rows(full: bool) -> Iterator[Row]:
    for name, net in NETS.items():
        if name == "face age" and not (full and torch.cuda.is_available()):
            continue
        members, points = net.members if full else 4, len(net.draw(torch.Generator()))
        steps = members * EPOCHS * -(-points // MINIBATCH)
        halved = partial(fleet, precision="bfloat16")
        with fresh(notebooks.KERNEL_ENVIRONMENT) as ours, fresh() as theirs:
            calls = (ours, fleet), (ours, halved), (theirs, one_by_one)
            for call, train in calls:
                call(once, train, name, 2)  # what a first fit sets up is not counted
            took = [
                [call(once, train, name, members) / steps for call, train in calls]
                for _ in range(3)
            ]
        for i, how in enumerate(("", ", bfloat16")):
            ratios = [times[-1] / times[i] for times in took]
            ours, theirs = (median(times[j] for times in took) for j in (i, -1))
            speeds = f"{1 / ours:.1f} and {1 / theirs:.1f} steps/s"
            note = f"{speeds}; {min(ratios):.1f} to {max(ratios):.1f} times"
            what = f"a training step, {name}, fleet of {members}{how}"
            yield Row(what, "eager, one by one", ours, theirs, note=note)
