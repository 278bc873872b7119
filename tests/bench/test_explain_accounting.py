"""The losses of the rows add up to the gap, whatever the times and the MACs are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.bench.explain.accounting import Item, gap, loss

TIMES = st.floats(0, 1e3, allow_nan=False)
ROWS = st.lists(
    st.one_of(
        st.builds(Item, TIMES, TIMES),
        st.tuples(TIMES, TIMES, st.integers(1, 10**9), st.floats(0.01, 1)).map(
            lambda v: Item(v[0], v[1], v[2], max(1, round(v[2] * v[3])))
        ),
    ),
    min_size=1,
    max_size=60,
)


def reduction_of(rows: list[Item]) -> float:
    dense, compact = sum(row.dense_macs for row in rows), sum(row.compact_macs for row in rows)
    return dense / compact if compact else 2.0


@given(ROWS)
def test_the_losses_add_up_to_the_gap(rows: list[Item]) -> None:
    reduction = reduction_of(rows)
    lost = [loss(row, reduction) for row in rows]
    assert math.isclose(sum(entry.total for entry in lost), gap(rows, reduction), abs_tol=1e-6)


@given(ROWS)
def test_a_network_whose_layers_all_follow_their_macs_lost_only_by_the_mix(rows: list[Item]) -> None:
    reduction = reduction_of(rows)
    ideal = [
        Item(row.dense, row.dense * row.share, row.dense_macs, row.compact_macs)
        for row in rows
        if row.share is not None
    ]
    assert all(abs(loss(row, reduction).own) <= 1e-9 * max(row.dense, 1) for row in ideal)


@given(TIMES, st.integers(1, 10**6), st.floats(1.01, 100))
def test_an_uncut_layer_that_takes_as_long_as_before_lost_by_the_mix_alone(
    ms: float, macs: int, reduction: float
) -> None:
    found = loss(Item(ms, ms, macs, macs), reduction)
    assert found.own == pytest.approx(0, abs=1e-9)
    assert found.mix == pytest.approx(ms * (1 - 1 / reduction), abs=1e-6)


def test_work_without_macs_is_expected_to_shrink_as_the_network_does() -> None:
    found = loss(Item(4.0, 3.0), 4.0)
    assert (found.own, found.mix) == (2.0, 0.0)
