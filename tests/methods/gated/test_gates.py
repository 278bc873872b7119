"""Gates of zeros and ones give exactly the masked and the sliced network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from compress import models
from compress.graph import ChannelGraph, SlicePlan, trace
from compress.graph.placement import Placement
from compress.methods.gated.gates import LEAKAGE, Gates, add_gates, gates_of, plain_state, units
from compress.planning import make_plan
from compress.planning.forward_check import _perturb
from compress.slicing import compare, mask_model, slice_model


class FreeGates(Gates):
    """Gates that are parameters themselves."""

    def __init__(self, unit_of: NDArray[np.int64]) -> None:
        super().__init__(unit_of)
        self.a = nn.Parameter(torch.ones(self.count))

    def relaxed(self) -> Tensor:
        return self.a * 1.0

    def binary(self) -> Tensor:
        return (self.a > 0.5).float()


class Branches(nn.Module):
    """Norms before and after a concatenation, a scale, an added parameter, a layer without a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.scale = nn.Parameter(torch.rand(16, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.rand(16, 1, 1) - 0.5)
        self.c = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.slope = nn.PReLU(16)
        self.d = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.norm(torch.cat([x, self.b(x)], 1)).relu()
        x = self.slope(self.c(x * self.scale + self.shift))
        out: Tensor = self.d(x.mean((2, 3)))
        return out


class Computed(nn.Module):
    """Standardised weights with a gain and without norms, then a group norm, then a response norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gain = nn.Conv2d(3, 8, 3, padding=1), nn.Parameter(torch.rand(8) + 0.5)
        self.b, self.norm = nn.Conv2d(8, 16, 3, padding=1), nn.GroupNorm(8, 16)
        self.c, self.d = nn.Conv2d(16, 8, 1), nn.Linear(8, 5)
        self.weight, self.bias = nn.Parameter(torch.rand(8, 1, 1)), nn.Parameter(torch.rand(8, 1, 1) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        rows = F.batch_norm(self.a.weight.reshape(1, 8, -1), None, None, weight=self.gain, training=True)
        x = F.conv2d(x, rows.reshape_as(self.a.weight), self.a.bias, padding=1).relu()
        w = self.b.weight - self.b.weight.mean((1, 2, 3), keepdim=True)
        x = self.c(self.norm(F.conv2d(x, w, self.b.bias, padding=1)).relu()).relu()
        size = x.norm(dim=(2, 3), keepdim=True)
        x = x + torch.addcmul(self.bias, self.weight, x * (size / (size.mean(1, keepdim=True) + 1e-6)))
        out: Tensor = self.d(x.mean((2, 3)))
        return out


def dense(name: str) -> tuple[nn.Module, ChannelGraph, Tensor]:
    torch.manual_seed(0)
    small = name in ("vgg_small", "resnet20", "branches", "computed")
    size = 16 if small else 32
    own = {"branches": Branches, "computed": Computed}
    model: nn.Module = own[name]() if name in own else models.build(name, input_size=(3, size, size))
    _perturb(model)
    x = torch.randn(2, 3, size, size)
    return model, trace(model, x), x


def mask_of(graph: ChannelGraph, gates: Gates, mask: NDArray[np.bool_]) -> SlicePlan:
    keep = gates.keep(torch.from_numpy(mask.astype(np.float32))).numpy() > 0
    for group in graph.groups:  # at least one channel stays
        if not keep[group.channels].any():
            mask[gates.unit_of[group.channels[0]]] = True
    keep = gates.keep(torch.from_numpy(mask.astype(np.float32))).numpy() > 0
    return make_plan(
        graph, keep={g.name: [int(i) for i in np.flatnonzero(keep[g.channels])] for g in graph.groups}
    )


def test_gated_network_of_zeros_and_ones_equals_the_masked_and_the_sliced_one(builtin: str) -> None:
    assert_gated_equals_masked_and_sliced(builtin)


@pytest.mark.parametrize("name", ["branches", "computed"])
def test_gated_network_of_ours_equals_the_masked_and_the_sliced_one(name: str) -> None:
    assert_gated_equals_masked_and_sliced(name)


def assert_gated_equals_masked_and_sliced(name: str) -> None:
    """With gates of zeros and ones."""
    model, graph, x = dense(name)
    place = Placement(graph)
    gates = FreeGates(units(graph, place.never))
    assert gates.count > 0
    mask = np.random.default_rng(0).random(gates.count) < 0.6
    plan = mask_of(graph, gates, mask)
    gated = copy.deepcopy(model)
    add_gates(gated, graph, gates, place.after)
    gates.freeze(mask)
    assert compare(mask_model(model, plan), gated, (x,), 1e-6).passed
    assert compare(gated, slice_model(model, plan), (x,)).passed
    assert compare(gated, copy.deepcopy(gated), (x,), 0.0).passed


@pytest.mark.parametrize("name", ["vgg_small", "resnet20", "mobilenetv2", "googlenet"])
def test_masks_act_on_norms_only_where_every_layer_has_one(name: str) -> None:
    model, graph, _ = dense(name)
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {p.name.rpartition(".")[0] for p in Placement(graph).after} <= norms


def test_masks_act_on_the_layer_where_no_norm_follows() -> None:
    _, graph, _ = dense("branches")
    names = {p.name for p in Placement(graph).after}
    assert {"norm.weight", "norm.bias", "shift", "c.weight", "c.bias"} <= names
    assert not {"b.weight", "scale", "slope.weight", "d.weight"} & names


def test_masks_act_on_what_a_weight_is_computed_from() -> None:
    _, graph, _ = dense("computed")
    names = {p.name for p in Placement(graph).after}
    assert {"a.weight", "a.bias", "gain", "b.weight", "norm.weight", "c.weight", "weight", "bias"} <= names


def test_open_gates_change_nothing() -> None:
    model, graph, x = dense("resnet20")
    place = Placement(graph)
    gated = copy.deepcopy(model)
    add_gates(gated, graph, FreeGates(units(graph, place.never)), place.after)
    assert compare(model, gated, (x,), 0.0).passed


def test_state_without_gates_is_that_of_the_dense_network() -> None:
    model, graph, _ = dense("vgg_small")
    place = Placement(graph)
    gated = copy.deepcopy(model)
    add_gates(gated, graph, FreeGates(units(graph, place.never)), place.after)
    state = plain_state(gated)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_closed_gate_before_a_relu_has_a_gradient_in_training() -> None:
    model, graph, x = dense("vgg_small")
    place = Placement(graph)
    add_gates(model := copy.deepcopy(model), graph, FreeGates(units(graph, place.never)), place.after)
    gates = gates_of(model)
    assert isinstance(gates, FreeGates)
    with torch.no_grad():
        gates.a[:5] = 0.0
    model.train()(x).square().sum().backward()
    assert gates.a.grad is not None
    assert (gates.a.grad[:5] != 0).all()
    assert float(gates.values()[0].detach()) == pytest.approx(LEAKAGE)


def test_gates_of_zero_are_exactly_zero_when_they_are_frozen() -> None:
    _, graph, _ = dense("vgg_small")
    gates = FreeGates(units(graph, Placement(graph).never))
    gates.freeze(np.zeros(gates.count, dtype=np.bool_))
    assert gates.train().values()[:-1].abs().max() == 0


def test_equal_counts_share_their_gates() -> None:
    _, graph, _ = dense("branches")
    of = units(graph, Placement(graph).never)
    group = next(g for g in graph.groups if len(g.parts) == 4)
    assert len({tuple(of[part]) for part in group.parts}) == 1
