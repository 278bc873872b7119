"""Random networks under random plans: the sliced network equals the masked dense one.

The environment variable `COMPRESS_EXAMPLES` sets the number of networks of the slow test.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
import torch
from exactness import assert_exact, randomize
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from random_networks import Composed, Spec, specs
from torch import nn

from compress.core.errors import CompressError
from compress.graph import ChannelGraph, SlicePlan, trace
from compress.graph.groups import layer_name
from compress.planning import make_plan

FAST, MANY = 30, 300
"""Number of random networks in the fast and in the slow test."""

CRITERIA = ("l1", "l2", "bn-scale", "random", "window")


def _indices(graph: ChannelGraph, rng: random.Random) -> dict[str, list[int]]:
    """A random choice of channels for every group, as many in each part as the ties ask for."""
    kept: dict[str, list[int]] = {group.name: [] for group in graph.groups}
    for choice in graph.width_choices:
        for (g, c), count in zip(choice.parts, rng.choice(choice.levels()), strict=True):
            group = graph.groups[g]
            chosen = rng.sample(group.parts[c].tolist(), count)
            order = group.channels.tolist()
            kept[group.name] += [order.index(channel) for channel in chosen]
    return kept


def _plan(graph: ChannelGraph, seed: int) -> SlicePlan:
    rng = random.Random(seed)
    options: dict[str, Any] = {"criterion": rng.choice(CRITERIA), "seed": seed}
    kind = rng.choice(["keep", "keep", "indices", "indices", "macs", "params", "some"])
    if kind == "indices" and graph.groups:
        return make_plan(graph, keep=_indices(graph, rng))
    if kind == "some" and graph.groups:
        names = rng.sample([g.name for g in graph.groups], rng.randint(1, len(graph.groups)))
        return make_plan(graph, keep=dict.fromkeys(names, 0.4), **options)
    options |= {"align": rng.choice([1, 1, 2, 4]), "min_width": rng.choice([1, 1, 3])}
    if kind in ("macs", "params"):
        try:
            return make_plan(graph, **{kind: rng.choice([0.3, 0.6, 0.9])}, **options)
        except CompressError as error:
            assert error.code == "target-unreachable"
            return make_plan(graph, **{kind: min(1.0, error.details["smallest"] * 1.01)}, **options)
    return make_plan(graph, keep=rng.choice([0.01, 0.3, 0.5, 0.8]), **options)


def _assert_every_layer_is_named(model: nn.Module, graph: ChannelGraph) -> None:
    """A layer's channels are in a group, or it is protected and the graph says why."""
    named = {layer_name(p) for group in graph.groups for p in group.producers}
    named |= {p.name for p in graph.protected if p.why}
    for name, module in model.named_modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) and max(module.weight.shape[:2]) > 1:
            outputs = module.weight.shape[1 if getattr(module, "transposed", False) else 0]
            assert name in named or outputs == 1 or name.endswith("out_proj"), name


@given(spec=specs(), head=st.integers(0, 4), seed=st.integers(0, 2**16))
def assert_sliced_equals_masked(spec: Spec, head: int, seed: int) -> None:
    torch.manual_seed(0)
    model = randomize(Composed(spec, head), seed)
    images = torch.randn(2, 3, 8, 8)
    graph = trace(model, images)
    _assert_every_layer_is_named(model, graph)
    try:
        plan = _plan(graph, seed)
    except CompressError as error:
        assert error.code == "plan-inexact"
        event("indices refused")
        return
    event("nothing can be cut" if not plan.kept else "rewritten" if plan.rewrites else "cut")
    assert_exact(model, plan, images)


def _check(networks: int) -> None:
    """Run `assert_sliced_equals_masked` on so many random networks, the same ones in every run."""
    options = settings(
        max_examples=networks,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    options(assert_sliced_equals_masked)()


def test_sliced_random_network_equals_the_masked_dense_one() -> None:
    _check(FAST)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_sliced_random_networks_equal_the_masked_dense_ones() -> None:
    _check(int(os.environ.get("COMPRESS_EXAMPLES", MANY)))
