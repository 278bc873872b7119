"""An operator the rule table does not know is protected; one decorated function makes it cuttable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from exactness import assert_exact, traced
from families import Net
from torch import Tensor
from torch.fx import Node

from compress.graph.context import Context
from compress.graph.labels import Lab
from compress.graph.rules import RULES, rule


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


@pytest.fixture
def squash_rule() -> Iterator[None]:
    """The worked example of the README."""

    @rule("mylib.squash")
    def keeps_channels(ctx: Context, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = args[0]
        return Lab(x.shape, x.fields, x.clean)

    yield
    del RULES["mylib.squash"]


def test_unknown_operator_protects_what_it_touches_and_stays_exact() -> None:
    for build, name in ((Squashed, "squash"), (Talking, "cross_talk")):
        model, images = build(), torch.randn(2, 3, 8, 8)
        graph = traced(model, images)
        assert [p.why for p in graph.protected if p.name == "a.0"] == [f"no rule for mylib.{name}"]
        assert [g.name for g in graph.groups] == ["b.0"]
        assert_exact(model, graph.plan(keep=0.5, criterion="random"), images)


@pytest.mark.usefixtures("squash_rule")
def test_operator_is_cut_once_it_has_a_rule() -> None:
    model, images = Squashed(), torch.randn(2, 3, 8, 8)
    graph = traced(model, images)
    assert [g.name for g in graph.groups] == ["a.0", "b.0"]
    assert_exact(model, graph.plan(keep=0.5, criterion="random"), images)


def test_aten_operator_can_be_given_a_rule() -> None:
    class Net2(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.b(torch.special.entr(self.a(x))))

    model, images = Net2(), torch.randn(2, 3, 8, 8)
    assert "a.0" in {p.name for p in traced(model, images).protected}
    RULES["special_entr"] = RULES["sin"]
    try:
        graph = traced(model, images)
    finally:
        del RULES["special_entr"]
    assert "a.0" in {g.name for g in graph.groups}
    assert_exact(model, graph.plan(keep=0.5, criterion="random"), images)


def test_rule_that_claims_too_much_is_caught_when_the_slice_is_verified() -> None:
    model, images = Talking(), torch.randn(2, 3, 8, 8)
    RULES["mylib.cross_talk"] = RULES["sin"]
    try:
        plan = traced(model, images).plan(keep=0.5, criterion="random")
    finally:
        del RULES["mylib.cross_talk"]
    with pytest.raises(AssertionError, match="relative error"):
        assert_exact(model, plan, images)


def test_second_rule_for_an_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="conv2d already has a rule"):
        rule("conv2d")(RULES["relu"])
