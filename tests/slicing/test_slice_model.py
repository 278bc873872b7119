"""The dense network is not changed, and the compact model is an ordinary module."""

from __future__ import annotations

import copy
import json
from functools import cache

import pytest
import torch
from exactness import assert_exact, traced, traced_case
from families import CASES, Net, block, conv
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.cost import dense_costs
from compress.graph import SlicePlan, trace
from compress.planning import make_plan
from compress.slicing import apply_plan, compare, slice_model

SAMPLE = [
    "Plain",
    "Concatenate",
    "Grouped",
    "ShuffleNet",
    "ViewHardCoded",
    "PaddedShortcut",
    "WeightNormedConvolution",
    "UnevenSplit",
    "InPlaceOnHalf",
    "FrozenLayers",
    "StandardizedByBatchNorm",
    "StandardizedGroups",
    "GroupNormedResidual",
    "ConvNeXtV2Block",
]


@cache
def _planned_case(name: str) -> tuple[nn.Module, SlicePlan, Tensor]:
    model, graph, images = traced_case(name)
    return model, make_plan(graph, keep=0.5, criterion="random"), images


def _sliced_case(name: str) -> tuple[nn.Module, SlicePlan, Tensor]:
    """Return a copy of a network, a plan for half its channels, and images; traced once per network."""
    model, plan, images = _planned_case(name)
    return copy.deepcopy(model), plan, images


@pytest.mark.parametrize("name", SAMPLE)
def test_slicing_leaves_the_dense_network_unchanged(name: str) -> None:
    torch.manual_seed(0)
    model, images = CASES[name].build().train(), torch.randn(2, 3, 8, 8)
    model.head.eval()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    gradients = [p.requires_grad for p in model.parameters()]
    compact = slice_model(model, make_plan(trace(model, images), keep=0.5))
    for parameter in compact.parameters():
        parameter.data.add_(1.0)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == gradients
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert [v.shape for v in state.values()] == [v.shape for v in model.state_dict().values()]


@pytest.mark.parametrize("name", SAMPLE)
def test_compact_model_has_the_state_dict_names_of_the_dense_network(name: str) -> None:
    model, plan, _ = _sliced_case(name)
    compact = slice_model(model, plan)
    assert set(compact.state_dict()) == set(model.state_dict())
    assert set(copy.deepcopy(compact).state_dict()) == set(model.state_dict())


@pytest.mark.parametrize("name", SAMPLE)
def test_compact_model_has_gradients_in_the_same_parameters_as_the_dense_network(name: str) -> None:
    model, plan, images = _sliced_case(name)
    compact = slice_model(model, plan).train()
    compact(images).square().sum().backward()
    model.train()(images).square().sum().backward()
    for key, dense in model.named_parameters():
        got = dict(compact.named_parameters())[key]
        assert (got.grad is None) == (dense.grad is None), key
        assert got.requires_grad == dense.requires_grad, key


@pytest.mark.parametrize("name", SAMPLE)
def test_compact_model_is_exported_with_a_dynamic_batch_size(name: str) -> None:
    model, plan, images = _sliced_case(name)
    compact = slice_model(model, plan).eval()
    more = torch.randn(5, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(compact, (images,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(more), compact(more))


@pytest.mark.parametrize("name", SAMPLE)
def test_plan_loaded_from_json_makes_the_same_compact_model(name: str) -> None:
    model, plan, images = _sliced_case(name)
    again = SlicePlan.from_json(json.loads(json.dumps(plan.to_json())))
    one, two = slice_model(model, plan), apply_plan(copy.deepcopy(model), again)
    assert compare(one, two, (images,), 0.0).passed
    blank = apply_plan(CASES[name].build(), again)
    blank.load_state_dict(one.state_dict())
    assert compare(one, blank, (images,), 0.0).passed


def test_compact_model_can_be_traced_and_sliced_again() -> None:
    for name in ("Grouped", "ShuffleNet", "ViewHardCoded"):
        model, plan, images = _sliced_case(name)
        compact = slice_model(model, plan)
        second = trace(compact, images)
        assert dense_costs(second) == plan.narrow
        assert_exact(compact, make_plan(second, keep=0.5), images)


def test_compact_model_keeps_frozen_and_shared_parameters() -> None:
    model, plan, _ = _sliced_case("FrozenLayers")
    compact = slice_model(model, plan)
    assert not any(p.requires_grad for p in compact.a.parameters())
    assert all(p.requires_grad for p in compact.head.parameters())
    model, plan, _ = _sliced_case("SharedWeights")
    compact = slice_model(model, plan)
    assert compact.c[0].weight is compact.d[0].weight


def test_layer_attributes_match_the_cut_shapes() -> None:
    class Layers(Net):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.up = conv(8, 8, groups=8), nn.ConvTranspose2d(8, 6, 2)
            self.last = block(6, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.last(self.up(self.c(self.b(self.a(x))))))

    model, images = Layers(), torch.randn(2, 3, 8, 8)
    compact = slice_model(model, make_plan(traced(model, images), keep=0.5))
    assert type(compact) is Layers
    assert (compact.c.in_channels, compact.c.out_channels, compact.c.groups) == (4, 4, 4)
    assert (compact.up.in_channels, compact.up.out_channels) == (4, 3)
    assert compact.a[1].num_features == 4
    assert compact.head.in_features == 4


def test_plan_of_another_network_is_refused() -> None:
    _, plan, _ = _sliced_case("Concatenate")
    with pytest.raises(CompressError, match="does not"):
        slice_model(CASES["FunctionalWeights"].build(), plan)


def test_group_norm_attributes_match_the_kept_groups() -> None:
    model, graph, images = traced_case("GroupNormedResidual")
    plan = make_plan(graph, keep=0.5)
    compact = assert_exact(model, plan, images)
    assert type(compact) is type(model)
    assert (compact.last.num_groups, compact.last.num_channels) == (4, 8)
