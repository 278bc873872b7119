"""What a plan chooses: ratios, widths, indices, targets, alignment and criteria; and what it refuses."""

from __future__ import annotations

import pytest
import torch
from exactness import assert_exact, traced
from families import CASES, Net, block
from torch import Tensor, nn

from compress.core.errors import CompressError, Exit
from compress.cost import cost_model, dense_costs
from compress.graph import ChannelGraph, trace
from compress.planning import make_plan, narrowest_mask


def _graph(name: str = "Plain") -> tuple[nn.Module, ChannelGraph, Tensor]:
    torch.manual_seed(0)
    model, images = CASES[name].build(), torch.randn(2, 3, 8, 8)
    return model, traced(model, images), images


class Wide(Net):
    def __init__(self) -> None:
        super().__init__(32, 64)
        self.c, self.d = block(32, 32, groups=4), block(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.d(torch.cat([self.b(x), self.c(x)], 1)))


def _wide() -> ChannelGraph:
    torch.manual_seed(0)
    return traced(Wide(), torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("align", [2, 4, 8, 16])
@pytest.mark.parametrize("target", [{"keep": 0.4}, {"macs": 0.4}, {"params": 0.4}])
def test_widths_are_multiples_of_the_alignment(align: int, target: dict[str, float]) -> None:
    plan = make_plan(_wide(), align=align, **target)  # type: ignore[arg-type]
    assert plan.widths
    assert all(kept % align == 0 for kept, _ in plan.widths.values()), plan.widths


def test_input_of_a_layer_after_a_concatenation_is_aligned() -> None:
    plan = make_plan(_wide(), keep=0.4, align=8)
    assert len(plan.kept["d.0.weight"][1]) % 8 == 0


def test_group_narrower_than_the_alignment_is_cut_without_it() -> None:
    _, graph, _ = _graph()
    assert make_plan(graph, keep=0.5, align=64).widths["a.0"] == (4, 8)


@pytest.mark.parametrize("least", [1, 3, 6, 100])
def test_no_group_gets_narrower_than_the_minimum(least: int) -> None:
    plan = make_plan(_wide(), keep=0.01, min_width=least)
    assert all(kept >= min(least, dense) for kept, dense in plan.widths.values())


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("what", ["macs", "params"])
def test_target_is_met_and_not_passed_by_more_than_a_hundredth(what: str, fraction: float) -> None:
    plan = make_plan(_wide(), **{what: fraction})  # type: ignore[arg-type]
    dense, narrow = getattr(plan.dense, what), getattr(plan.narrow, what)
    assert abs(narrow / dense - fraction) < 0.05
    assert narrow <= 1.01 * fraction * dense


def test_absolute_target_is_the_fraction_of_the_same_cost() -> None:
    graph = _wide()
    assert make_plan(graph, macs=dense_costs(graph).macs // 2).widths == make_plan(graph, macs=0.5).widths


def test_unreachable_target_names_the_smallest_and_that_works() -> None:
    graph = _wide()
    with pytest.raises(CompressError, match="cannot be reached") as caught:
        make_plan(graph, macs=1e-6)
    assert caught.value.exit is Exit.USAGE
    smallest = float(caught.value.hint.rsplit("=", 1)[1])
    plan = make_plan(graph, macs=smallest)
    assert plan.narrow.macs <= smallest * plan.dense.macs
    assert plan.narrow.macs == cost_model(graph).costs(narrowest_mask(graph)).macs


def test_unknown_group_is_answered_with_near_names() -> None:
    _, graph, _ = _graph()
    with pytest.raises(CompressError, match=r"a\.00") as caught:
        make_plan(graph, keep={"a.00": 0.5})
    assert "a.0" in caught.value.hint


def test_protected_layer_is_refused_with_its_reason() -> None:
    _, graph, _ = _graph()
    with pytest.raises(CompressError, match="network output"):
        make_plan(graph, keep={"head": 0.5})


@pytest.mark.parametrize("bad", [
    {"keep": 0}, {"keep": 1.5}, {"keep": -0.1}, {"keep": float("nan")}, {"macs": 0}, {"macs": 1e18}, {},
    {"keep": 0.5, "macs": 0.5}, {"keep": 0.5, "align": 0}, {"keep": 0.5, "min_width": 0},
    {"keep": 0.5, "criterion": "best"}, {"keep": {"a.0": 9}}, {"keep": {"a.0": 0}}, {"keep": {"a.0": 1.2}},
    {"keep": {"a.0": [0, 8]}}, {"keep": {"a.0": []}}, {"keep": {"a.0": [-1]}},
])  # fmt: skip
def test_what_is_out_of_range_is_a_usage_error(bad: dict[str, object]) -> None:
    _, graph, _ = _graph()
    with pytest.raises(CompressError) as caught:
        make_plan(graph, **bad)  # type: ignore[arg-type]
    assert caught.value.exit is Exit.USAGE


def test_named_ratio_width_pattern_and_indices_choose_those_groups_only() -> None:
    model, graph, images = _graph("Concatenate")
    assert make_plan(graph, keep={"a.0": 0.25}).widths == {"a.0": (2, 8), "b.0": (8, 8)}
    assert make_plan(graph, keep={"a.0": 3, "b.0": 5}).widths == {"a.0": (3, 8), "b.0": (5, 8)}
    assert make_plan(graph, keep={"*": 0.5}).widths == {"a.0": (4, 8), "b.0": (4, 8)}
    plan = make_plan(graph, keep={"a.0": [1, 6, 7]})
    assert plan.kept["a.0.weight"] == {0: [1, 6, 7]}
    assert_exact(model, plan, images)


def test_groups_tied_in_number_follow_the_one_that_is_named() -> None:
    model, graph, images = _graph("ChunkResidual")
    plan = make_plan(graph, keep={"a.0": 1})
    assert plan.widths["a.0"][0] == plan.widths["a.0#2"][0] == 1
    assert_exact(model, plan, images)


def test_indices_that_break_a_tie_are_refused_and_the_graph_stays() -> None:
    _, graph, _ = _graph("Grouped")
    before = graph.groups
    with pytest.raises(CompressError, match="equally many"):
        make_plan(graph, keep={"a.0": [0, 1, 2, 3]})
    assert graph.groups == before


def test_groups_of_a_grouped_convolution_keep_different_channels_of_the_same_number() -> None:
    model, graph, images = _graph("Grouped")
    plan = make_plan(graph, keep={"a.0": [0, 1, 4, 6, 10, 11]})
    assert plan.kept["b.0.weight"][1] == [[0, 1], [0, 2], [2, 3]]
    assert_exact(model, plan, images)


def _scored(criterion: str) -> list[int]:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -4.0, 2.0, 3.0]).reshape(4, 1, 1, 1))
        model[1].weight.copy_(torch.tensor([0.9, 0.1, -0.8, 0.2]))
    plan = make_plan(trace(model, torch.randn(2, 1, 2, 2)), keep=0.5, criterion=criterion)  # type: ignore[arg-type]
    kept: list[int] = plan.kept["0.weight"][0]
    return kept


@pytest.mark.parametrize(
    ("criterion", "kept"), [("l1", [1, 3]), ("l2", [1, 3]), ("bn-scale", [0, 2]), ("window", [1, 2])]
)
def test_criterion_keeps_the_channels_that_score_highest(criterion: str, kept: list[int]) -> None:
    assert _scored(criterion) == kept


def test_l1_and_l2_rank_a_spread_and_a_peaked_filter_differently() -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, 0.5, 0.5, 0.5], [1.5, 0.0, 0.0, 0.0]]).reshape(2, 4, 1, 1))
    graph = trace(model, torch.randn(2, 4, 4, 4))
    assert make_plan(graph, keep=0.5, criterion="l1").kept["0.weight"][0] == [0]
    assert make_plan(graph, keep=0.5, criterion="l2").kept["0.weight"][0] == [1]


def test_random_criterion_depends_on_the_seed_alone() -> None:
    graph = _wide()
    one, same, other = (make_plan(graph, keep=0.5, criterion="random", seed=s).kept for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_free_pads_refuse_criteria_that_scatter() -> None:
    model, images = CASES["PaddedShortcut"].build(), torch.randn(2, 3, 8, 8)
    with pytest.raises(CompressError, match="free pads"):
        make_plan(trace(model, images, free_pads=True), keep=0.5, criterion="l1")


def test_untraceable_network_is_named_with_the_exporters_reason() -> None:
    class Depends(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.classify(self.a(x)) if x.sum() > 0 else self.head(x[:, 0, 0])

    with pytest.raises(CompressError, match="Depends") as caught:
        trace(Depends(), torch.randn(2, 3, 8, 8))
    assert caught.value.exit is Exit.BUILD


def test_keep_of_everything_cuts_nothing() -> None:
    plan = make_plan(_wide(), keep=1.0)
    assert not plan.kept
    assert not plan.masked
    assert plan.narrow == plan.dense
