"""Each cause follows from its evidence, and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.bench.explain.accounting import Item, loss
from compress.bench.explain.causes import Evidence, Limits, better_width, causes
from compress.bench.explain.probes import Probed, Spec, alternatives
from compress.bench.explain.record import Cause

LIMITS = Limits(macs_per_ms=40e6, bytes_per_ms=10e6, node_ms=0.001)
REDUCTION = 4.0
SAME = (("Conv",), ("Conv",))


def spec(inputs: int, outputs: int) -> Spec:
    return Spec("Conv", (outputs, inputs, 3, 3), (inputs, 28, 28), pads=(1, 1, 1, 1))


def probed(inputs: int, outputs: int, ns_per_mac: float, pool_ns: float = 0.0) -> Probed:
    layer = spec(inputs, outputs)
    return Probed(layer, layer.macs * ns_per_mac, pool_ns, 0.005, ("Conv",))


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
    probes: Mapping[str, Probed] | None = None,
) -> Evidence:
    item = Item(dense, compact, *(macs if kind == "layer" else (0, 0)))
    return Evidence(kind, item, loss(item, REDUCTION), noise, moved, nodes, kernels, probes or {})


def main_cause(known: Evidence) -> Cause:
    parts, _ = causes(known, LIMITS)
    assert sum(part.ms for part in parts) == pytest.approx(known.loss.total, abs=1e-9)
    return parts[0].cause


MISALIGNED = {
    "own": probed(33, 33, 0.04),
    "dense": probed(64, 64, 0.022),
    "8-": probed(32, 32, 0.022),
    "8+": probed(40, 40, 0.0225),
}
NARROW = {
    "own": probed(32, 32, 0.04),
    "dense": probed(64, 64, 0.022),
    "16-": probed(16, 16, 0.08),
}


def test_a_layer_that_is_faster_for_each_mac_at_the_aligned_widths_is_misaligned() -> None:
    known = evidence(2.0, probes=MISALIGNED)
    parts, better = causes(known, LIMITS)
    assert parts[0].cause is Cause.MISALIGNED
    assert better is not None
    assert better.text == "32 or 40"
    assert parts[0].ms == pytest.approx(2.0 * (1 - 0.022 / 0.04))
    assert "32" in parts[0].why


def test_a_wider_layer_that_takes_no_longer_convicts_a_width_however_far_it_is() -> None:
    own = probed(5, 5, 0.1)
    wider = Probed(spec(8, 8), own.layer_ns * 0.99, 0.0, 0.005)
    better = better_width({"own": own, "8+": wider})
    assert better is not None
    assert better.text == "8"


def test_the_nearest_aligned_width_may_be_the_dense_one() -> None:
    found = alternatives(spec(11, 11), spec(16, 16))
    assert set(found) == {"own", "dense", "8-"}
    own = probed(11, 11, 0.1)
    dense = Probed(spec(16, 16), own.layer_ns * 0.95, 0.0, 0.005)
    known = evidence(1.1, dense=1.0, probes={"own": own, "dense": dense})
    parts, better = causes(known, LIMITS)
    assert parts[0].cause is Cause.MISALIGNED
    assert better is not None
    assert better.text == "16"


def test_a_far_wider_layer_that_is_merely_more_efficient_does_not() -> None:
    assert better_width({"own": probed(8, 8, 0.1), "16+": probed(16, 16, 0.05)}) is None


def test_a_difference_within_the_spread_of_the_probes_does_not() -> None:
    assert better_width({"own": probed(33, 33, 0.0225), "8-": probed(32, 32, 0.0222)}) is None


def test_a_layer_no_near_width_is_faster_than_is_too_narrow() -> None:
    assert main_cause(evidence(2.0, probes=NARROW)) is Cause.NARROW


def test_a_layer_whose_bytes_take_longer_than_its_share_is_memory_bound() -> None:
    known = evidence(2.0, macs=(120_000_000, 30_000_000), moved=19_000_000)
    parts, _ = causes(known, LIMITS)
    assert parts[0].cause is Cause.MEMORY
    assert parts[0].ms == pytest.approx(0.9)
    assert "ridge" in parts[0].why


@pytest.mark.parametrize("moved", [5_000_000, 25_000_000])
def test_a_layer_far_from_the_bandwidth_or_beyond_it_is_not_memory_bound(moved: int) -> None:
    """Beyond it the bytes come out of a cache."""
    known = evidence(2.0, macs=(12_000_000, 3_000_000), moved=moved)
    parts, _ = causes(known, LIMITS)
    assert Cause.MEMORY not in {part.cause for part in parts}


def test_a_layer_above_the_ridge_is_not() -> None:
    parts, _ = causes(evidence(2.0, moved=1_000_000), LIMITS)
    assert Cause.MEMORY not in {part.cause for part in parts}


def test_a_layer_as_short_as_an_empty_node_is_launch_bound() -> None:
    known = evidence(0.0012, dense=0.002, macs=(4000, 1000), noise=0.00001, moved=100)
    assert main_cause(known) is Cause.LAUNCH


def test_an_uncut_layer_is_protected() -> None:
    assert main_cause(evidence(4.0, macs=(1000, 1000))) is Cause.PROTECTED


def test_a_layer_that_was_cut_less_than_the_network_is_an_uneven_cut() -> None:
    known = evidence(2.0, macs=(1000, 500))
    parts, _ = causes(known, LIMITS)
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
def test_work_that_is_no_layer_has_the_cause_of_its_kind(kind: str, cause: Cause) -> None:
    assert main_cause(evidence(3.0, kind=kind, nodes=(0, 2))) is cause


def test_a_pool_that_is_faster_at_an_aligned_width_is_misaligned() -> None:
    probes = {"own": probed(33, 33, 0.04, 150_000.0), "8-": probed(32, 32, 0.022, 80_000.0)}
    assert main_cause(evidence(0.2, dense=0.2, kind="other", probes=probes)) is Cause.MISALIGNED


def test_another_kernel_is_named_where_nothing_else_accounts_for_the_loss() -> None:
    known = evidence(2.0, kernels=(("brgconv",), ("ref",)))
    parts, _ = causes(known, LIMITS)
    assert parts[0].cause is Cause.KERNEL
    assert parts[0].why == "ref instead of brgconv"


def test_a_loss_without_any_evidence_stays_unexplained() -> None:
    assert main_cause(evidence(2.0)) is Cause.UNEXPLAINED


def test_a_loss_within_the_spread_of_the_layers_times_is_noise() -> None:
    assert main_cause(evidence(1.005, noise=0.01)) is Cause.NOISE


def test_a_layer_that_gained_more_than_its_macs_is_a_gain() -> None:
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
    probes: dict[str, Probed],
    moved: int,
    noise: float,
) -> None:
    known = evidence(
        compact, dense=dense, macs=(one, other), kind=kind, probes=probes, moved=moved, noise=noise
    )
    parts, _ = causes(known, LIMITS)
    assert sum(part.ms for part in parts) == pytest.approx(known.loss.total, abs=1e-9)


def test_the_alternatives_of_a_width_are_its_nearest_multiples_and_the_dense_one() -> None:
    found = alternatives(spec(33, 65), spec(64, 128))
    assert {name: (other.inputs, other.outputs) for name, other in found.items()} == {
        "own": (33, 65),
        "dense": (64, 128),
        "8-": (32, 64),
        "8+": (40, 72),
        "16+": (48, 80),
    }


def test_a_width_that_was_not_cut_is_not_changed() -> None:
    found = alternatives(spec(3, 33), spec(3, 64))
    assert {other.inputs for other in found.values()} == {3}


def test_a_depthwise_layer_keeps_a_group_for_every_channel() -> None:
    own, dense = (Spec("Conv", (width, 1, 3, 3), (width, 8, 8), groups=width) for width in (33, 64))
    found = alternatives(own, dense)
    assert found["8-"].groups == found["8-"].outputs == 32
