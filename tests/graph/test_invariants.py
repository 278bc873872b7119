"""The dense network is never changed, and the narrow one is an ordinary network."""

from __future__ import annotations

import copy
import io
import json
import warnings

import pytest
import torch
import torch.nn.functional as F
from exactness import assert_exact, traced
from families import CASES, Net, block, conv
from torch import Tensor, nn

from compress.core.errors import CompressError
from compress.cost import dense_costs
from compress.graph import ChannelGraph, SlicePlan, trace
from compress.graph.rewrite import TracedModel
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


def _case(name: str, keep: float = 0.5) -> tuple[nn.Module, ChannelGraph, SlicePlan, Tensor]:
    torch.manual_seed(0)
    model, images = CASES[name].build(), torch.randn(2, 3, 8, 8)
    graph = traced(model, images)
    return model, graph, make_plan(graph, keep=keep, criterion="random"), images


@pytest.mark.parametrize("name", SAMPLE)
def test_dense_network_keeps_its_values_and_its_modes(name: str) -> None:
    torch.manual_seed(0)
    model, images = CASES[name].build().train(), torch.randn(2, 3, 8, 8)
    model.head.eval()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    gradients = [p.requires_grad for p in model.parameters()]
    narrow = slice_model(model, make_plan(trace(model, images), keep=0.5))
    for parameter in narrow.parameters():
        parameter.data.add_(1.0)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == gradients
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert [v.shape for v in state.values()] == [v.shape for v in model.state_dict().values()]


@pytest.mark.parametrize("name", SAMPLE)
def test_narrow_network_keeps_the_names_of_its_state(name: str) -> None:
    model, _, plan, _ = _case(name)
    narrow = slice_model(model, plan)
    assert set(narrow.state_dict()) == set(model.state_dict())
    assert set(copy.deepcopy(narrow).state_dict()) == set(model.state_dict())


@pytest.mark.parametrize("name", SAMPLE)
def test_every_parameter_of_a_narrow_network_that_had_a_gradient_has_one(name: str) -> None:
    model, _, plan, images = _case(name)
    narrow = slice_model(model, plan).train()
    narrow(images).square().sum().backward()
    model.train()(images).square().sum().backward()
    for key, dense in model.named_parameters():
        got = dict(narrow.named_parameters())[key]
        assert (got.grad is None) == (dense.grad is None), key
        assert got.requires_grad == dense.requires_grad, key


@pytest.mark.parametrize("name", SAMPLE)
def test_narrow_network_exports_and_takes_another_batch(name: str) -> None:
    model, _, plan, images = _case(name)
    narrow = slice_model(model, plan).eval()
    more = torch.randn(5, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(narrow, (images,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(more), narrow(more))


@pytest.mark.parametrize("name", SAMPLE)
def test_plan_read_back_from_json_makes_the_same_network(name: str) -> None:
    model, _, plan, images = _case(name)
    again = SlicePlan.from_json(json.loads(json.dumps(plan.to_json())))
    one, two = slice_model(model, plan), apply_plan(copy.deepcopy(model), again)
    assert compare(one, two, (images,), 0.0).passed
    blank = apply_plan(CASES[name].build(), again)
    blank.load_state_dict(one.state_dict())
    assert compare(one, blank, (images,), 0.0).passed


def test_sliced_network_can_be_traced_and_sliced_again() -> None:
    for name in ("Grouped", "ShuffleNet", "ViewHardCoded"):
        model, _, plan, images = _case(name)
        narrow = slice_model(model, plan)
        second = trace(narrow, images)
        assert dense_costs(second) == plan.narrow
        assert_exact(narrow, make_plan(second, keep=0.5), images)


def test_traced_copy_goes_through_onnx() -> None:
    import onnxruntime

    model, _, plan, images = _case("StridedSlice")
    narrow = slice_model(model, plan).eval()
    assert isinstance(narrow, TracedModel)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(narrow, (images,), dynamo=True, verbose=False)
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(got), narrow(images), rtol=1e-4, atol=1e-5)


class HardCodedWithDropout(Net):
    """Needs a traced copy, and has a dropout and a norm whose modes matter."""

    def __init__(self) -> None:
        super().__init__(8, 8 * 64)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(self.b(self.a(x))).view(-1, 8 * 64))
        return out


@pytest.mark.parametrize("copied", [False, True])
def test_modes_of_a_traced_copy_switch_its_norms_and_dropouts(copied: bool) -> None:
    torch.manual_seed(0)
    model, images = HardCodedWithDropout(), torch.randn(4, 3, 8, 8)
    narrow = slice_model(model, make_plan(traced(model, images), keep=0.5))
    assert isinstance(narrow, TracedModel)
    narrow = copy.deepcopy(narrow) if copied else narrow
    narrow.eval()
    before = copy.deepcopy(narrow.state_dict())
    torch.testing.assert_close(narrow(images), narrow(images), rtol=0, atol=0)
    assert torch.equal(narrow.state_dict()["a.1.running_mean"], before["a.1.running_mean"])
    narrow.train()
    assert not torch.equal(narrow(images), narrow(images))
    assert not torch.equal(narrow.state_dict()["a.1.running_mean"], before["a.1.running_mean"])
    narrow.eval()
    torch.testing.assert_close(narrow(images), narrow(images), rtol=0, atol=0)


def test_traced_copy_trains_as_the_module_does() -> None:
    torch.manual_seed(0)
    model, images = CASES["ViewHardCoded"].build(), torch.randn(4, 3, 8, 8)
    plan = make_plan(traced(model, images), keep=0.99)
    rewritten = SlicePlan(
        **{**vars(plan), "rewrites": {"view": ["aten.view.default", [{"node": "relu"}, [-1, 512]]]}}
    )
    copied = slice_model(model, rewritten).train()
    assert isinstance(copied, TracedModel)
    torch.testing.assert_close(copied(images), model.train()(images))


class WritesIntoHalf(Net):
    """An in-place write into part of a tensor, with a dropout that a functional trace loses."""

    def __init__(self) -> None:
        super().__init__(8, 8 * 64)
        self.c = block(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).clone()
        y[:, :4] = self.c(y[:, :4])
        out: Tensor = self.head(F.dropout(y, 0.5, self.training).view(-1, 8 * 64))
        return out


def test_traced_copy_that_lost_its_dropout_refuses_to_train() -> None:
    model, images = WritesIntoHalf(), torch.randn(2, 3, 8, 8)
    plan = make_plan(traced(model, images), keep=0.5)
    assert plan.rewrites
    narrow = slice_model(model, plan)
    assert_exact(model, plan, images)
    with pytest.raises(CompressError, match="dropout"):
        narrow.train()


def test_in_place_write_to_the_base_of_a_view_is_seen() -> None:
    class Net2(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            seen = x[:, :, :4]
            x.add_(1.0)
            return self.classify(self.b(seen))

    model, images = Net2(), torch.randn(2, 3, 8, 8)
    graph = traced(model, images)
    assert "a.0" in {p.name for p in graph.protected}
    assert_exact(model, make_plan(graph, keep=0.5), images)


def test_frozen_layers_stay_frozen_and_shared_ones_shared() -> None:
    model, _, plan, _ = _case("FrozenLayers")
    narrow = slice_model(model, plan)
    assert not any(p.requires_grad for p in narrow.a.parameters())
    assert all(p.requires_grad for p in narrow.head.parameters())
    model, _, plan, _ = _case("SharedWeights")
    narrow = slice_model(model, plan)
    assert narrow.c[0].weight is narrow.d[0].weight


def test_layers_describe_their_new_shapes() -> None:
    class Layers(Net):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.up = conv(8, 8, groups=8), nn.ConvTranspose2d(8, 6, 2)
            self.last = block(6, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.last(self.up(self.c(self.b(self.a(x))))))

    model, images = Layers(), torch.randn(2, 3, 8, 8)
    narrow = slice_model(model, make_plan(traced(model, images), keep=0.5))
    assert type(narrow) is Layers
    assert (narrow.c.in_channels, narrow.c.out_channels, narrow.c.groups) == (4, 4, 4)
    assert (narrow.up.in_channels, narrow.up.out_channels) == (4, 3)
    assert narrow.a[1].num_features == 4
    assert narrow.head.in_features == 4


def test_plan_of_another_network_is_refused() -> None:
    _, _, plan, _ = _case("Concatenate")
    with pytest.raises(CompressError, match="does not"):
        slice_model(CASES["FunctionalWeights"].build(), plan)
