"""Every cause is attributed from its own evidence only."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.bench.explain.causes import Evidence, Limits, attribute_loss, better_width
from compress.bench.explain.loss import RowCost, row_loss
from compress.bench.explain.microbenchmarks import LayerSpec, LayerTiming, alternative_widths
from compress.bench.explain.record import Cause

LIMITS = Limits(macs_per_ms=40e6, bytes_per_ms=10e6, node_ms=0.001)
REDUCTION = 4.0
SAME = (("Conv",), ("Conv",))


def spec(inputs: int, outputs: int) -> LayerSpec:
    return LayerSpec("Conv", (outputs, inputs, 3, 3), (inputs, 28, 28), pads=(1, 1, 1, 1))


def timing(inputs: int, outputs: int, ns_per_mac: float, pool_ns: float = 0.0) -> LayerTiming:
    layer = spec(inputs, outputs)
    return LayerTiming(layer, layer.macs * ns_per_mac, pool_ns, 0.005, ("Conv",))


def evidence(
    compact: float,
    *,
    dense: float = 4.0,
    macs: tuple[int, int] = (120_000_000, 30_000_000),
    kind: str = "layer",
    noise: float = 0.01,
    moved: int = 1_000_000,
    nodes: tuple[int, int] = (1, 1),
    kernels: tuple[tuple[str, ...], tuple[str, ...]] = SAME,
    timings: Mapping[str, LayerTiming] | None = None,
) -> Evidence:
    cost = RowCost(dense, compact, *(macs if kind == "layer" else (0, 0)))
    return Evidence(kind, cost, row_loss(cost, REDUCTION), noise, moved, nodes, kernels, timings or {})


def main_cause(row: Evidence) -> Cause:
    parts, _ = attribute_loss(row, LIMITS)
    assert sum(part.ms for part in parts) == pytest.approx(row.loss.total, abs=1e-9)
    return parts[0].cause


MISALIGNED = {
    "own": timing(33, 33, 0.04),
    "dense": timing(64, 64, 0.022),
    "8-": timing(32, 32, 0.022),
    "8+": timing(40, 40, 0.0225),
}
NARROW = {
    "own": timing(32, 32, 0.04),
    "dense": timing(64, 64, 0.022),
    "16-": timing(16, 16, 0.08),
}


def test_a_layer_that_is_faster_per_mac_at_aligned_widths_is_misaligned() -> None:
    row = evidence(2.0, timings=MISALIGNED)
    parts, better = attribute_loss(row, LIMITS)
    assert parts[0].cause is Cause.MISALIGNED
    assert better is not None
    assert better.text == "32 or 40"
    assert parts[0].ms == pytest.approx(2.0 * (1 - 0.022 / 0.04))
    assert "32" in parts[0].why


def test_a_wider_layer_that_is_not_slower_is_better_at_any_distance() -> None:
    own = timing(5, 5, 0.1)
    wider = LayerTiming(spec(8, 8), own.layer_ns * 0.99, 0.0, 0.005)
    better = better_width({"own": own, "8+": wider})
    assert better is not None
    assert better.text == "8"


def test_the_nearest_aligned_width_may_be_the_dense_one() -> None:
    specs = alternative_widths(spec(11, 11), spec(16, 16))
    assert set(specs) == {"own", "dense", "8-"}
    own = timing(11, 11, 0.1)
    dense = LayerTiming(spec(16, 16), own.layer_ns * 0.95, 0.0, 0.005)
    row = evidence(1.1, dense=1.0, timings={"own": own, "dense": dense})
    parts, better = attribute_loss(row, LIMITS)
    assert parts[0].cause is Cause.MISALIGNED
    assert better is not None
    assert better.text == "16"


def test_a_much_wider_layer_that_is_only_more_efficient_is_not_better() -> None:
    assert better_width({"own": timing(8, 8, 0.1), "16+": timing(16, 16, 0.05)}) is None


def test_a_difference_within_the_spread_of_the_timings_is_not_better() -> None:
    assert better_width({"own": timing(33, 33, 0.0225), "8-": timing(32, 32, 0.0222)}) is None


def test_a_layer_that_no_near_width_makes_faster_is_too_narrow() -> None:
    assert main_cause(evidence(2.0, timings=NARROW)) is Cause.NARROW


def test_a_layer_limited_by_the_memory_bandwidth_is_memory_bound() -> None:
    row = evidence(2.0, macs=(120_000_000, 30_000_000), moved=19_000_000)
    parts, _ = attribute_loss(row, LIMITS)
    assert parts[0].cause is Cause.MEMORY
    assert parts[0].ms == pytest.approx(0.9)
    assert "ridge" in parts[0].why


@pytest.mark.parametrize("moved", [5_000_000, 25_000_000])
def test_a_layer_far_below_or_above_the_bandwidth_is_not_memory_bound(moved: int) -> None:
    """Above the bandwidth, the bytes come from a cache."""
    row = evidence(2.0, macs=(12_000_000, 3_000_000), moved=moved)
    parts, _ = attribute_loss(row, LIMITS)
    assert Cause.MEMORY not in {part.cause for part in parts}


def test_a_layer_above_the_ridge_point_is_not_memory_bound() -> None:
    parts, _ = attribute_loss(evidence(2.0, moved=1_000_000), LIMITS)
    assert Cause.MEMORY not in {part.cause for part in parts}


def test_a_layer_as_short_as_an_empty_node_is_launch_bound() -> None:
    row = evidence(0.0012, dense=0.002, macs=(4000, 1000), noise=0.00001, moved=100)
    assert main_cause(row) is Cause.LAUNCH


def test_an_uncut_layer_is_protected() -> None:
    assert main_cause(evidence(4.0, macs=(1000, 1000))) is Cause.PROTECTED


def test_a_layer_that_was_cut_less_than_the_network_is_unevenly_cut() -> None:
    row = evidence(2.0, macs=(1000, 500))
    parts, _ = attribute_loss(row, LIMITS)
    assert parts[0].cause is Cause.UNEVEN
    assert "50%" in parts[0].why


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("conversion", Cause.CONVERSION),
        ("scatter", Cause.SCATTER),
        ("other", Cause.NO_MACS),
        ("call", Cause.LAUNCH),
    ],
)
def test_other_work_has_the_cause_of_its_kind(kind: str, cause: Cause) -> None:
    assert main_cause(evidence(3.0, kind=kind, nodes=(0, 2))) is cause


def test_a_pool_that_is_faster_at_an_aligned_width_is_misaligned() -> None:
    timings = {"own": timing(33, 33, 0.04, 150_000.0), "8-": timing(32, 32, 0.022, 80_000.0)}
    assert main_cause(evidence(0.2, dense=0.2, kind="other", timings=timings)) is Cause.MISALIGNED


def test_another_kernel_is_the_cause_if_no_limit_accounts_for_the_loss() -> None:
    row = evidence(2.0, kernels=(("brgconv",), ("ref",)))
    parts, _ = attribute_loss(row, LIMITS)
    assert parts[0].cause is Cause.KERNEL
    assert parts[0].why == "ref instead of brgconv"


def test_a_loss_without_evidence_is_unexplained() -> None:
    assert main_cause(evidence(2.0)) is Cause.UNEXPLAINED


def test_a_loss_within_the_spread_of_the_layers_times_is_noise() -> None:
    assert main_cause(evidence(1.005, noise=0.01)) is Cause.NOISE


def test_a_layer_whose_time_fell_more_than_its_macs_is_a_gain() -> None:
    assert main_cause(evidence(0.5)) is Cause.GAIN


@given(
    st.floats(0, 10),
    st.floats(0.001, 10),
    st.integers(1, 10**8),
    st.integers(1, 10**8),
    st.sampled_from(["layer", "other", "conversion", "scatter", "call"]),
    st.sampled_from([{}, MISALIGNED, NARROW]),
    st.integers(0, 10**8),
    st.floats(0, 1),
)
def test_the_parts_add_up_to_the_loss(
    compact: float,
    dense: float,
    one: int,
    other: int,
    kind: str,
    timings: dict[str, LayerTiming],
    moved: int,
    noise: float,
) -> None:
    row = evidence(
        compact, dense=dense, macs=(one, other), kind=kind, timings=timings, moved=moved, noise=noise
    )
    parts, _ = attribute_loss(row, LIMITS)
    assert sum(part.ms for part in parts) == pytest.approx(row.loss.total, abs=1e-9)


def test_alternative_widths_are_the_nearest_multiples_and_the_dense_width() -> None:
    specs = alternative_widths(spec(33, 65), spec(64, 128))
    assert {name: (other.inputs, other.outputs) for name, other in specs.items()} == {
        "own": (33, 65),
        "dense": (64, 128),
        "8-": (32, 64),
        "8+": (40, 72),
        "16+": (48, 80),
    }


def test_a_width_that_was_not_cut_is_not_changed() -> None:
    specs = alternative_widths(spec(3, 33), spec(3, 64))
    assert {other.inputs for other in specs.values()} == {3}


def test_a_depthwise_layer_keeps_a_group_for_every_channel() -> None:
    own, dense = (LayerSpec("Conv", (width, 1, 3, 3), (width, 8, 8), groups=width) for width in (33, 64))
    specs = alternative_widths(own, dense)
    assert specs["8-"].groups == specs["8-"].outputs == 32
