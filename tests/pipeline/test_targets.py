"""Targets are met within 1% for every built-in network, with aligned widths."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from compress import models
from compress.core.errors import CompressError, Exit
from compress.graph import ChannelGraph, trace
from compress.pipeline import TrainRequest, parse_target, plan_training, resolve
from compress.pipeline.targets import plan_for_target

GOALS = ["macs=0.9", "macs=0.5", "macs=0.15", "params=0.7", "params=0.3"]


@cache
def graph_of(name: str, free_pads: bool) -> ChannelGraph:
    torch.manual_seed(0)
    return trace(models.build(name), torch.rand(2, 3, 32, 32), free_pads=free_pads)


@pytest.mark.parametrize("free_pads", [True, False])
def test_targets_are_met_within_one_percent(builtin: str, free_pads: bool) -> None:
    graph = graph_of(builtin, free_pads)
    for target in GOALS:
        kind, goal = parse_target(target).cost, parse_target(target).value
        plan, align = plan_for_target(graph, target, criterion="window" if free_pads else "l1")
        assert getattr(plan.narrow, kind) == pytest.approx(goal * getattr(plan.dense, kind), rel=0.01), target
        assert align in (8, 4, 2, 1)


@pytest.mark.parametrize("name", ["vgg16", "resnet56"])
def test_target_as_a_number_is_met_within_one_percent(name: str) -> None:
    resolved = resolve(TrainRequest(model=name, data="cifar10", target="macs=60M"))
    assert plan_training(resolved, 10, (3, 32, 32)).compact_costs.macs == pytest.approx(60e6, rel=0.01)


@pytest.mark.parametrize("align", [1, 4, 16])
def test_widths_are_multiples_of_the_alignment(align: int) -> None:
    plan, used = plan_for_target(graph_of("vgg16", True), "macs=0.5", str(align))
    assert used == align
    assert all(kept % align == 0 for kept, _ in plan.widths.values())


def test_alignment_is_the_widest_that_meets_the_target() -> None:
    plan, align = plan_for_target(graph_of("vgg16", True), "macs=0.5")
    assert align == 8 and all(kept % 8 == 0 for kept, _ in plan.widths.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("macs=0.5", ("macs", 0.5)), ("params=1.2M", ("params", 1.2e6)), ("macs=60m", ("macs", 60e6)),
     ("macs=1G", ("macs", 1e9)), ("params=300K", ("params", 3e5)), ("macs=1", ("macs", 1.0)),
     ("macs=50%", ("macs", 0.5)), ("params=40 %", ("params", 0.4)), ("speedup=2", ("macs", 0.5)),
     ("speedup=2.5x", ("macs", 0.4))],
)  # fmt: skip
def test_target_is_parsed(text: str, expected: tuple[str, float]) -> None:
    target = parse_target(text)
    assert (target.cost, target.value) == (expected[0], pytest.approx(expected[1]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "macs",
        "macs=",
        "flops=0.5",
        "macs=half",
        "macs=0",
        "macs=-0.5",
        "macs=nan",
        "macs=inf",
        "macs=M",
        "macs=150%",
        "speedup=0.5",
        "speedup=fast",
        "speedup=inf",
    ],
)
def test_invalid_target_is_an_error(text: str) -> None:
    with pytest.raises(CompressError) as error:
        parse_target(text)
    assert repr(text) in error.value.message and "macs=0.5" in error.value.hint
    assert error.value.code == "bad-target" and error.value.exit == Exit.USAGE


@pytest.mark.parametrize(
    ("text", "reason"),
    [("macs=150%", "at most 100%"), ("speedup=0.5", "at least 1"), ("flops=0.5", "macs, params or speedup")],
)
def test_invalid_target_says_which_values_are_valid(text: str, reason: str) -> None:
    with pytest.raises(CompressError, match=reason):
        parse_target(text)


def test_speedup_target_notes_that_the_measured_one_is_usually_smaller() -> None:
    note = parse_target("speedup=2").note
    assert "2x fewer MACs" in note and "usually smaller" in note and "compress bench" in note
    assert parse_target("macs=0.5").note == ""


def test_target_above_the_dense_network_is_refused() -> None:
    with pytest.raises(CompressError, match="more than the dense network") as error:
        plan_for_target(graph_of("resnet20", True), "macs=900M")
    assert error.value.code == "target-range"


@pytest.mark.parametrize("target", ["macs=0.0001", "params=0.0001", "params=10"])
def test_unreachable_target_names_the_smallest_that_is(target: str) -> None:
    graph = graph_of("resnet20", True)
    with pytest.raises(CompressError, match="cannot be reached") as error:
        plan_for_target(graph, target)
    assert error.value.code == "target-unreachable" and error.value.exit == Exit.USAGE
    kind = target.partition("=")[0]
    smallest = error.value.hint.rpartition("is ")[2]
    assert smallest.startswith(f"{kind}=0.")
    assert parse_target(smallest).value == pytest.approx(error.value.details["smallest"], rel=2e-3)
    plan, _ = plan_for_target(graph, smallest)
    assert getattr(plan.narrow, kind) <= 1.01 * parse_target(smallest).value * getattr(plan.dense, kind)


def test_target_unreachable_with_alignment_reports_the_reachable_cost() -> None:
    with pytest.raises(CompressError, match=r"within 1%: the nearest is macs=0\.\d+") as error:
        plan_for_target(graph_of("vgg_small", True), "macs=0.5", "32")
    assert "--align" in error.value.hint and 0 < error.value.details["nearest"] <= 1


@pytest.mark.parametrize("align", ["0", "-4", "wide", "2.5"])
def test_invalid_alignment_is_an_error(align: str) -> None:
    with pytest.raises(CompressError, match=align) as error:
        plan_for_target(graph_of("vgg_small", True), "macs=0.5", align)
    assert error.value.code == "bad-align"


def test_summary_gives_the_plan_as_numbers() -> None:
    resolved = resolve(TrainRequest(recipe="dcff-vgg16-cifar10"))
    summary = plan_training(resolved, 10, (3, 32, 32)).summary(resolved)
    assert (summary["macs"], summary["params"]) == (72_349_240, 1_071_248)
    assert summary["dense"] == {"macs": 313_201_664, "params": 14_728_266}
    assert summary["published"]["macs"] == 72_770_000
    assert summary["widths"]["features.conv13"] == [76, 512]
    assert summary["protected"][0]["why"]


def test_same_seed_gives_the_same_network() -> None:
    resolved = resolve(
        TrainRequest(model="vgg_small", data="digits", target="macs=0.5", settings={"seed": 3})
    )
    one, two = (plan_training(resolved, 10, (1, 8, 8)).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
