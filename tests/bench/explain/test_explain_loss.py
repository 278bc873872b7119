"""The losses of the rows add up to the total_gap for any times and MACs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.bench.explain.loss import RowCost, row_loss, total_gap

TIMES = st.floats(0, 1e3, allow_nan=False)
ROWS = st.lists(
    st.one_of(
        st.builds(RowCost, TIMES, TIMES),
        st.tuples(TIMES, TIMES, st.integers(1, 10**9), st.floats(0.01, 1)).map(
            lambda v: RowCost(v[0], v[1], v[2], max(1, round(v[2] * v[3])))
        ),
    ),
    min_size=1,
    max_size=60,
)


def reduction_of(rows: list[RowCost]) -> float:
    dense, compact = sum(row.dense_macs for row in rows), sum(row.compact_macs for row in rows)
    return dense / compact if compact else 2.0


@given(ROWS)
def test_the_losses_add_up_to_the_gap(rows: list[RowCost]) -> None:
    reduction = reduction_of(rows)
    lost = [row_loss(row, reduction) for row in rows]
    assert math.isclose(sum(entry.total for entry in lost), total_gap(rows, reduction), abs_tol=1e-6)


@given(ROWS)
def test_layers_whose_time_falls_like_their_macs_have_no_own_loss(rows: list[RowCost]) -> None:
    reduction = reduction_of(rows)
    ideal = [
        RowCost(row.dense, row.dense * row.share, row.dense_macs, row.compact_macs)
        for row in rows
        if row.share is not None
    ]
    assert all(abs(row_loss(row, reduction).own) <= 1e-9 * max(row.dense, 1) for row in ideal)


@given(TIMES, st.integers(1, 10**6), st.floats(1.01, 100))
def test_an_uncut_layer_with_unchanged_time_has_only_a_mix_loss(
    ms: float, macs: int, reduction: float
) -> None:
    lost_time = row_loss(RowCost(ms, ms, macs, macs), reduction)
    assert lost_time.own == pytest.approx(0, abs=1e-9)
    assert lost_time.mix == pytest.approx(ms * (1 - 1 / reduction), abs=1e-6)


def test_work_without_macs_is_compared_with_the_reduction_of_the_network() -> None:
    lost_time = row_loss(RowCost(4.0, 3.0), 4.0)
    assert (lost_time.own, lost_time.mix) == (2.0, 0.0)
