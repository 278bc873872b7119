"""An operator without a row is protected; one row makes its channels cuttable."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exactness import assert_exact, traced
from families import Net
from torch import Tensor
from torch.fx import Node

from compress.graph.labels import LabeledTensor
from compress.graph.operators import OPERATORS, Operator
from compress.graph.rule_context import RuleContext
from compress.planning import make_plan


@torch.library.custom_op("mylib::squash", mutates_args=())
def squash(x: Tensor) -> Tensor:
    """Each value by itself; zero stays zero."""
    return x / (1 + x.abs())


@squash.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("mylib::cross_talk", mutates_args=())
def cross_talk(x: Tensor) -> Tensor:
    """Every channel reads its neighbour."""
    return x + x.roll(1, 1)


@cross_talk.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Squashed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(squash(self.a(x))))


class Talking(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(cross_talk(self.a(x))))


def keeps_channels(context: RuleContext, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Carry channels through an operator that works on each value by itself and keeps zero."""
    x = args[0]
    return LabeledTensor(x.shape, x.fields, x.zero_when_dropped)


def give_row(monkeypatch: pytest.MonkeyPatch, name: str, row: Operator) -> None:
    monkeypatch.setitem(OPERATORS._entries, name, row)


def test_operator_without_a_row_protects_its_channels() -> None:
    for build, name in ((Squashed, "squash"), (Talking, "cross_talk")):
        model, images = build(), torch.randn(2, 3, 8, 8)
        graph = traced(model, images)
        assert [p.why for p in graph.protected if p.name == "a.0"] == [f"no rule for mylib.{name}"]
        assert [g.name for g in graph.groups] == ["b.0"]
        assert_exact(model, make_plan(graph, keep=0.5, criterion="random"), images)


def test_operator_with_a_row_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    give_row(monkeypatch, "mylib.squash", Operator(keeps_channels))
    model, images = Squashed(), torch.randn(2, 3, 8, 8)
    graph = traced(model, images)
    assert [g.name for g in graph.groups] == ["a.0", "b.0"]
    assert_exact(model, make_plan(graph, keep=0.5, criterion="random"), images)


def test_row_can_be_added_for_an_aten_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net2(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.b(torch.special.entr(self.a(x))))

    model, images = Net2(), torch.randn(2, 3, 8, 8)
    assert "a.0" in {p.name for p in traced(model, images).protected}
    give_row(monkeypatch, "special_entr", Operator("keeps_zero"))
    graph = traced(model, images)
    assert "a.0" in {g.name for g in graph.groups}
    assert_exact(model, make_plan(graph, keep=0.5, criterion="random"), images)


def test_exactness_check_detects_a_wrong_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images = Talking(), torch.randn(2, 3, 8, 8)
    give_row(monkeypatch, "mylib.cross_talk", Operator("keeps_zero"))
    plan = make_plan(traced(model, images), keep=0.5, criterion="random")
    with pytest.raises(AssertionError, match="relative error"):
        assert_exact(model, plan, images)
