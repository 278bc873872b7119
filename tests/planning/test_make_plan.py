"""Plans: ratios, widths, indices, targets and alignment, and the options that are refused."""

from __future__ import annotations

import pytest
import torch
from exactness import assert_exact, traced, traced_case
from families import Net, block
from torch import Tensor

from compress.core.errors import CompressError, Exit
from compress.cost import cost_model, dense_costs
from compress.graph import ChannelGraph
from compress.planning import make_plan, narrowest_mask


class Wide(Net):
    def __init__(self) -> None:
        super().__init__(32, 64)
        self.c, self.d = block(32, 32, groups=4), block(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.d(torch.cat([self.b(x), self.c(x)], 1)))


def _wide_graph() -> ChannelGraph:
    torch.manual_seed(0)
    return traced(Wide(), torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("align", [2, 4, 8, 16])
@pytest.mark.parametrize("target", [{"keep": 0.4}, {"macs": 0.4}, {"params": 0.4}])
def test_widths_are_multiples_of_the_alignment(align: int, target: dict[str, float]) -> None:
    plan = make_plan(_wide_graph(), align=align, **target)  # type: ignore[arg-type]
    assert plan.widths
    assert all(kept % align == 0 for kept, _ in plan.widths.values()), plan.widths


def test_input_of_a_layer_after_a_concatenation_is_aligned() -> None:
    plan = make_plan(_wide_graph(), keep=0.4, align=8)
    assert len(plan.kept["d.0.weight"][1]) % 8 == 0


def test_group_narrower_than_the_alignment_is_cut_without_alignment() -> None:
    _, graph, _ = traced_case("Plain")
    assert make_plan(graph, keep=0.5, align=64).widths["a.0"] == (4, 8)


@pytest.mark.parametrize("least", [1, 3, 6, 100])
def test_no_group_is_narrower_than_min_width(least: int) -> None:
    plan = make_plan(_wide_graph(), keep=0.01, min_width=least)
    assert all(kept >= min(least, dense) for kept, dense in plan.widths.values())


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("what", ["macs", "params"])
def test_target_is_met_and_exceeded_by_at_most_one_percent(what: str, fraction: float) -> None:
    plan = make_plan(_wide_graph(), **{what: fraction})  # type: ignore[arg-type]
    dense, compact = getattr(plan.dense, what), getattr(plan.narrow, what)
    assert abs(compact / dense - fraction) < 0.05
    assert compact <= 1.01 * fraction * dense


def test_absolute_target_gives_the_plan_of_the_equal_fraction() -> None:
    graph = _wide_graph()
    assert make_plan(graph, macs=dense_costs(graph).macs // 2).widths == make_plan(graph, macs=0.5).widths


def test_error_for_an_unreachable_target_states_the_smallest_reachable_one() -> None:
    graph = _wide_graph()
    with pytest.raises(CompressError, match="cannot be reached") as caught:
        make_plan(graph, macs=1e-6)
    assert caught.value.exit is Exit.USAGE
    smallest = float(caught.value.hint.rsplit("=", 1)[1])
    plan = make_plan(graph, macs=smallest)
    assert plan.narrow.macs <= smallest * plan.dense.macs
    assert plan.narrow.macs == cost_model(graph).costs(narrowest_mask(graph)).macs


def test_error_for_an_unknown_group_suggests_similar_names() -> None:
    _, graph, _ = traced_case("Plain")
    with pytest.raises(CompressError, match=r"a\.00") as caught:
        make_plan(graph, keep={"a.00": 0.5})
    assert "a.0" in caught.value.hint


def test_protected_layer_is_refused_with_its_reason() -> None:
    _, graph, _ = traced_case("Plain")
    with pytest.raises(CompressError, match="network output"):
        make_plan(graph, keep={"head": 0.5})


@pytest.mark.parametrize("bad", [
    {"keep": 0}, {"keep": 1.5}, {"keep": -0.1}, {"keep": float("nan")}, {"macs": 0}, {"macs": 1e18}, {},
    {"keep": 0.5, "macs": 0.5}, {"keep": 0.5, "align": 0}, {"keep": 0.5, "min_width": 0},
    {"keep": 0.5, "criterion": "best"}, {"keep": {"a.0": 9}}, {"keep": {"a.0": 0}}, {"keep": {"a.0": 1.2}},
    {"keep": {"a.0": [0, 8]}}, {"keep": {"a.0": []}}, {"keep": {"a.0": [-1]}},
])  # fmt: skip
def test_invalid_option_is_a_usage_error(bad: dict[str, object]) -> None:
    _, graph, _ = traced_case("Plain")
    with pytest.raises(CompressError) as caught:
        make_plan(graph, **bad)  # type: ignore[arg-type]
    assert caught.value.exit is Exit.USAGE


def test_keep_by_group_cuts_only_the_named_groups() -> None:
    model, graph, images = traced_case("Concatenate")
    assert make_plan(graph, keep={"a.0": 0.25}).widths == {"a.0": (2, 8), "b.0": (8, 8)}
    assert make_plan(graph, keep={"a.0": 3, "b.0": 5}).widths == {"a.0": (3, 8), "b.0": (5, 8)}
    assert make_plan(graph, keep={"*": 0.5}).widths == {"a.0": (4, 8), "b.0": (4, 8)}
    plan = make_plan(graph, keep={"a.0": [1, 6, 7]})
    assert plan.kept["a.0.weight"] == {0: [1, 6, 7]}
    assert_exact(model, plan, images)


def test_group_of_a_tied_width_follows_the_named_group() -> None:
    model, graph, images = traced_case("ChunkResidual")
    plan = make_plan(graph, keep={"a.0": 1})
    assert plan.widths["a.0"][0] == plan.widths["a.0#2"][0] == 1
    assert_exact(model, plan, images)


def test_indices_that_break_a_tied_width_are_refused_and_leave_the_graph_unchanged() -> None:
    _, graph, _ = traced_case("Grouped")
    before = graph.groups
    with pytest.raises(CompressError, match="equally many"):
        make_plan(graph, keep={"a.0": [0, 1, 2, 3]})
    assert graph.groups == before


def test_each_group_of_a_grouped_convolution_keeps_as_many_channels_of_its_own() -> None:
    model, graph, images = traced_case("Grouped")
    plan = make_plan(graph, keep={"a.0": [0, 1, 4, 6, 10, 11]})
    assert plan.kept["b.0.weight"][1] == [[0, 1], [0, 2], [2, 3]]
    assert_exact(model, plan, images)


def test_keep_of_all_channels_cuts_nothing() -> None:
    plan = make_plan(_wide_graph(), keep=1.0)
    assert not plan.kept
    assert not plan.masked
    assert plan.narrow == plan.dense


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"macs": "0.5"}, "macs='0.5' is not a number"),
        ({"macs": True}, "macs=True is not a number"),
        ({"keep": [0, 1]}, "is not a number"),
        ({"keep": {1: 0.5}}, "names a group by 1"),
        ({"keep": {"a.0": None}}, "None is not a ratio"),
        ({"keep": {"a.0": "half"}}, "'half' is not a ratio"),
        ({"macs": 0.5, "align": 2.5}, "align=2.5 is not an integer"),
        ({"macs": 0.5, "align": "auto"}, "align='auto' is not an integer"),
        ({"macs": 0.5, "min_width": "1"}, "min_width='1' is not an integer"),
        ({"macs": 0.5, "criterion": None}, "None is not a criterion"),
        ({"macs": 0.5, "criterion": object()}, "is not a criterion"),
        ({"macs": 0.5, "criterion": "random", "seed": -1}, "seed=-1"),
        ({"macs": 0.5, "whole": "a.0"}, "is not a list of names"),
        ({"macs": 0.5, "whole": ["no-such-group"]}, "no channel group is called 'no-such-group'"),
    ],
)
def test_argument_of_a_wrong_type_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(CompressError, match=message) as raised:
        make_plan(_wide_graph(), **options)  # type: ignore[arg-type]
    assert raised.value.exit == Exit.USAGE
