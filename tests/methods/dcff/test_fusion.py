"""Fused filters in networks: their output, their gradients, and exact folding."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress import models
from compress.artifact import RunFolder, load, new_record, save_compact
from compress.cost import dense_costs
from compress.data import load as load_data
from compress.graph import ChannelGraph, trace
from compress.methods import METHODS, Setup
from compress.methods.dcff.fusion import FusedBias, FusedFilters, fused_layers, rows
from compress.methods.dcff.method import DCFF, DCFFMethod
from compress.planning import make_plan
from compress.slicing import compare
from compress.training import TrainConfig
from compress.training.ema import Ema

SIZES = {"resnet20": 32, "vgg_small": 16, "mobilenetv2": 32, "googlenet": 32, "densenet40": 32}


class HardPads(nn.Module):
    """A network whose forward has a pad of 4 + 4 channels written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        y = self.norm(self.conv2(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        out: Tensor = self.linear(F.relu(y).mean((2, 3)))
        return out


class Mixed(nn.Module):
    """Ordinary, grouped and depthwise convolutions, one applied twice, and one weight in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.twice = nn.Conv2d(16, 16, 1)
        self.first = nn.Conv2d(16, 16, 1, bias=False)
        self.second = nn.Conv2d(16, 16, 1, bias=False)
        self.second.weight = self.first.weight
        self.linear = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.depthwise(F.relu(self.grouped(F.relu(self.conv(x))))))
        x = self.twice(F.relu(self.twice(x)))
        x = self.second(F.relu(self.first(x)))
        out: Tensor = self.linear(x.mean((2, 3)))
        return out


def prepared(
    model: nn.Module, size: int = 32, keep: float = 0.5, channels: int = 3, **options: object
) -> tuple[DCFFMethod, Setup, ChannelGraph]:
    """A network with fused filters, coded for its first epoch."""
    graph = trace(model, torch.rand(2, channels, size, size), free_pads=True)
    plan = make_plan(graph, keep=keep, criterion="window")
    setup = Setup(model, graph, plan, TrainConfig(epochs=10))
    method = DCFFMethod(DCFF.model_validate(options), setup)
    method.begin_epoch(method.model, 0, 10)
    return method, setup, graph


def batch(size: int = 32, count: int = 4, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def step(model: nn.Module, size: int = 32) -> None:
    """One optimizer step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    F.cross_entropy(model.train()(batch(size)), torch.arange(4)).backward()
    optimizer.step()


def fused_names(model: nn.Module) -> set[str]:
    layers = {id(layer.module) for layer in fused_layers(model)}
    return {name for name, module in model.named_modules() if id(module) in layers}


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradient_of_the_full_filters_is_that_of_the_fused_through_the_proxies(channels_last: bool) -> None:
    torch.manual_seed(0)
    full = torch.randn(12, 5, 3, 3)
    if channels_last:
        full = full.contiguous(memory_format=torch.channels_last)
    full.requires_grad_()
    fuse = FusedFilters(full.detach(), torch.arange(4))
    fuse.proxies.copy_(torch.rand(4, 12))
    fused = fuse(full)
    fused.retain_grad()
    (F.conv2d(torch.randn(2, 5, 6, 6), fused) ** 2).sum().backward()
    assert full.grad is not None and fused.grad is not None
    torch.testing.assert_close(fused, torch.einsum("sc,cihw->sihw", fuse.proxies, full))
    torch.testing.assert_close(full.grad, torch.einsum("sc,sihw->cihw", fuse.proxies, fused.grad))
    assert fused.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_rows_of_filters_are_views_in_both_memory_formats() -> None:
    full = torch.randn(6, 4, 3, 3)
    for filters in (
        full,
        full.contiguous(memory_format=torch.channels_last),
        full[:, :, :1, :1].contiguous(),
    ):
        assert rows(filters).untyped_storage()._cdata == filters.untyped_storage()._cdata
    assert rows(torch.randn(6, 4)).shape == (6, 4)


def test_bias_is_fused_by_the_proxies_of_its_filters() -> None:
    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16)
    for layer in fused_layers(method.model):
        weight, bias = layer.parts
        assert isinstance(bias, FusedBias) and torch.equal(weight.proxies, bias.proxies)
        original = layer.module.parametrizations.bias.original  # type: ignore[union-attr]
        torch.testing.assert_close(layer.module.bias, weight.proxies @ original)


def test_full_filters_are_the_dense_ones_on_the_kept_inputs() -> None:
    model = models.build("vgg_small", 10, (3, 16, 16))
    method, setup, _ = prepared(model, 16)
    dense = dict(model.named_parameters())
    assert setup.plan is not None
    for name in ("features.conv1", "features.conv4"):
        kept = setup.plan.kept[f"{name}.weight"]
        expected = dense[f"{name}.weight"]
        if 1 in kept:
            expected = expected[:, kept[1]]
        layer = next(x for x in fused_layers(method.model) if x.module is method.model.get_submodule(name))
        assert torch.equal(layer.full, expected)
        assert layer.module.weight.shape[0] == len(kept[0])  # type: ignore[union-attr, arg-type]


def test_layers_that_keep_all_their_filters_are_plain() -> None:
    model = models.build("vgg_small", 10, (3, 16, 16))
    graph = trace(model, torch.rand(2, 3, 16, 16), free_pads=True)
    plan = make_plan(graph, keep={"features.conv3": 0.5}, criterion="window")
    method = DCFFMethod(DCFF(), Setup(model, graph, plan, TrainConfig(epochs=10)))
    assert fused_names(method.model) == {"features.conv3"}


def test_grouped_depthwise_and_shared_weights_are_trained_as_they_are() -> None:
    torch.manual_seed(0)
    method, _, _ = prepared(Mixed(), 16)
    assert fused_names(method.model) == {"conv", "twice"}
    step(method.model, 16)
    compact = method.finish(method.model)
    assert compact.first.weight is compact.second.weight
    assert compare(method.model, compact, (batch(16),)).max_abs == 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("resnet20", "vgg_small") else pytest.mark.slow)
        for name in SIZES
    ],
)
def test_network_trains_a_step_is_folded_and_loaded_from_its_artifact(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = SIZES[name]
    model = models.build(name, 10, (3, size, size))
    method, setup, graph = prepared(model, size)
    assert setup.plan is not None and len(fused_names(method.model)) >= 6
    before = copy.deepcopy(method.model.state_dict())
    step(method.model, size)
    for layer in fused_layers(method.model):
        assert layer.full.grad is not None and layer.full.grad.abs().sum() > 0
    assert any(not torch.equal(value, before[key]) for key, value in method.model.state_dict().items())
    method.begin_epoch(method.model, 9, 10)
    compact = method.finish(method.model)
    assert type(compact) is type(model) and not fused_names(compact)
    unused = sum(p.numel() for p in model.parameters()) - dense_costs(graph).params
    assert sum(p.numel() for p in compact.parameters()) - unused == setup.plan.narrow.params
    report = compare(method.model, compact, (batch(size),))
    assert report.max_abs == 0, report
    record = new_record(
        model=models.model_spec(name, 10, (3, size, size)), data=load_data("digits", (3, size, size)).info,
        dense=dense_costs(graph), target="keep=0.5", seed=0, method="dcff", settings={},
    )  # fmt: skip
    with RunFolder.create(tmp_path / "run", record) as run:
        save_compact(run, compact, record.model, setup.plan, {})
        loaded = load(run)
    state = loaded.state_dict()
    assert state.keys() == compact.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in compact.state_dict().items())
    assert torch.equal(loaded(batch(size)), compact.eval()(batch(size)))


def test_folding_leaves_the_trained_network_usable() -> None:
    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16)
    expected = method.model.eval()(batch(16))
    keys = list(method.model.state_dict())
    method.finish(method.model)
    assert torch.equal(method.model(batch(16)), expected) and list(method.model.state_dict()) == keys
    step(method.model, 16)
    method.begin_epoch(method.model, 1, 10)
    assert torch.isfinite(method.model(batch(16))).all()


def test_frozen_layer_stays_frozen() -> None:
    model = models.build("vgg_small", 10, (3, 16, 16))
    model.features.conv1.requires_grad_(False)
    method, _, _ = prepared(model, 16)
    compact = method.finish(method.model)
    frozen = [name for name, p in compact.named_parameters() if not p.requires_grad]
    assert frozen == ["features.conv1.weight", "features.conv1.bias"]


def test_copy_is_independent_and_computes_the_same() -> None:
    method, _, _ = prepared(models.build("resnet20"))
    twin = copy.deepcopy(method.model)
    assert torch.equal(twin.eval()(batch()), method.model.eval()(batch()))
    expected = twin(batch())
    step(method.model)
    method.begin_epoch(method.model, 5, 10)
    assert torch.equal(twin.eval()(batch()), expected)
    assert fused_names(twin) == fused_names(method.model)


def test_average_of_the_weights_is_fused_by_the_present_proxies() -> None:
    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16)
    ema = Ema(method.model, 0.5)
    step(method.model, 16)
    method.begin_epoch(method.model, 4, 10)
    ema.update(method.model)
    for mean, now in zip(fused_layers(ema.module), fused_layers(method.model), strict=True):
        assert torch.equal(mean.parts[0].proxies, now.parts[0].proxies)
        assert torch.equal(mean.slots, now.slots) and not torch.equal(mean.full, now.full)
    assert compare(ema.module, method.finish(ema.module), (batch(16),)).max_abs == 0


def traced() -> DCFFMethod:
    torch.manual_seed(0)
    method, setup, _ = prepared(HardPads())
    assert setup.plan is not None and setup.plan.rewrites
    return method


def test_network_with_a_hard_coded_pad_is_fused_in_its_traced_copy() -> None:
    method = traced()
    assert fused_names(method.model) == {"conv1", "conv2"}
    step(method.model)
    method.begin_epoch(method.model, 1, 10)
    compact = method.finish(method.model)
    assert {name for name, _ in compact.named_parameters()} == dict(HardPads().named_parameters()).keys()
    assert compare(method.model, compact, (batch(),)).max_abs == 0
    assert compact.eval()(batch()).shape == (4, 10)


def test_copy_of_a_traced_network_is_fused_and_trains_too() -> None:
    method = traced()
    twin = copy.deepcopy(method.model)
    assert fused_names(twin) == {"conv1", "conv2"}
    assert twin.state_dict().keys() == method.model.state_dict().keys()
    before = copy.deepcopy(method.model.state_dict())
    step(twin)
    assert all(torch.equal(value, before[key]) for key, value in method.model.state_dict().items())
    assert compare(twin, method.finish(twin), (batch(),)).max_abs == 0
    Ema(method.model, 0.5).update(method.model)


def test_coding_and_slots_travel_with_the_state_of_the_network() -> None:
    torch.manual_seed(0)
    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16)
    step(method.model, 16)
    state = copy.deepcopy(method.model.state_dict())
    torch.manual_seed(1)
    other_method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16)
    other_method.model.load_state_dict(state)
    for epoch in (1, 2):
        method.begin_epoch(method.model, epoch, 3)
        other_method.begin_epoch(other_method.model, epoch, 3)
    assert all(
        torch.equal(v, other_method.model.state_dict()[k]) for k, v in method.model.state_dict().items()
    )
    assert method.metrics() == other_method.metrics()


def test_filters_that_stay_keep_their_channel_in_a_network() -> None:
    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16)
    before = [layer.slots.clone() for layer in fused_layers(method.model)]
    step(method.model, 16)
    method.begin_epoch(method.model, 3, 10)
    exchanged = 0
    for layer, was in zip(fused_layers(method.model), before, strict=True):
        moved = layer.slots != was
        assert len(set(layer.slots.tolist())) == len(was)
        assert not set(layer.slots[moved].tolist()) & set(was.tolist())
        exchanged += int(moved.sum())
    assert method.metrics()["dcff_newcomers"] == exchanged


def test_ranked_channels_follow_the_importance() -> None:
    from compress.methods.dcff.method import code_filters

    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16, slots="ranked")
    method.begin_epoch(method.model, 3, 10)
    for layer in fused_layers(method.model):
        _, importance = code_filters(rows(layer.full.detach()), method.metrics()["dcff_temperature"])
        ranked = importance[layer.slots]
        assert torch.equal(ranked, importance.sort(descending=True).values[: len(ranked)])


@pytest.mark.parametrize("freeze", [False, True])
def test_freeze_stops_the_choice_but_not_the_proxies(freeze: bool) -> None:
    torch.manual_seed(0)
    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16, freeze=freeze)
    method.begin_epoch(method.model, 99, 100)
    layer = next(fused_layers(method.model))
    slots, proxies = layer.slots.clone(), layer.parts[0].proxies.clone()
    with torch.no_grad():
        layer.full.copy_(torch.randn_like(layer.full) * torch.rand(32, 1, 1, 1) * 1e-3)
    method.begin_epoch(method.model, 99, 100)
    assert torch.equal(layer.slots, slots) is freeze
    assert (method.metrics()["dcff_newcomers"] == 0) is freeze
    assert not torch.equal(layer.parts[0].proxies, proxies)


def test_mixed_precision_fuses_in_single_precision() -> None:
    method, _, _ = prepared(models.build("vgg_small", 10, (3, 16, 16)), 16)
    layer = next(fused_layers(method.model))
    expected = layer.module.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.module.weight, expected)  # type: ignore[arg-type]
        assert method.model(batch(16)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_prepares_trains_and_finishes(name: str) -> None:
    torch.manual_seed(0)
    kind = METHODS[name]
    model = models.build("vgg_small", 10, (3, 16, 16))
    graph = trace(model, torch.rand(2, 3, 16, 16), free_pads=kind.free_pads)
    plan = (
        make_plan(graph, keep=0.5, criterion="window" if kind.free_pads else "l1")
        if kind.needs_target
        else None
    )
    teacher = copy.deepcopy(model) if kind.uses_teacher else None
    budget = 0.5 * dense_costs(graph).macs
    setup = Setup(model, graph, plan, TrainConfig(epochs=2), 1, "macs", budget, "auto", teacher)
    method = kind(kind.config_type(), setup)
    for epoch in range(2):
        method.begin_epoch(method.model, epoch, 2)
        step(method.model, 16)
        method.end_epoch(method.model, epoch, 2)
    compact = method.finish(method.model)
    assert compact is not method.model and compare(method.model, compact, (batch(16),)).passed
