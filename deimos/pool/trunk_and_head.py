"""A model in two: what runs once a point, and what runs once a mask."""

import torch
from torch import Tensor, nn

from deimos.models.networks import Network
from deimos.pool.batch_points import PoolPoints, take
from deimos.pool.watching import Plan


def split_trunk_and_head(
    model: nn.Module, plan: Plan, points: PoolPoints
) -> tuple[nn.Module | None, nn.Module]:
    """Split a model into what runs once a point and once a mask, where that is certain.

    The layers of an `nn.Sequential` before the first that drops are a trunk, if both parts, one
    after the other, give for a few points what the model gives.
    """
    layers, few = flat_layers(model), take(points, torch.arange(8))
    drops = [bool(plan.modules() & set(layer.modules())) for layer in layers]
    first = drops.index(True) if True in drops else 0
    if not first or not isinstance(points, Tensor):
        return None, model
    trunk, head = nn.Sequential(*layers[:first]), nn.Sequential(*layers[first:])
    features = trunk(few.clone())
    if not isinstance(features, Tensor) or len(features) != len(few):
        return None, model
    both, whole = head(features), model(few.clone())
    if isinstance(both, Tensor) and torch.allclose(both, whole, rtol=1e-4, equal_nan=True):
        return trunk, head
    return None, model


def flat_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of nested `nn.Sequential`s one after the other; any other module is one layer."""
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return [model]
    return [layer for part in model for layer in flat_layers(part)]


def head_with_dropout(network: Network) -> nn.Sequential:
    """The head of one of the paper's networks, with its dropout as layers."""
    parts = [(nn.Dropout(network.p).eval(), dense, nn.ReLU()) for dense in network.dense]
    return nn.Sequential(*[layer for part in parts for layer in part][:-1])
