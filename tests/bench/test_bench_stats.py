from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from bench.stats import (
    PERCENTILE_NEEDS,
    SAME_WITHIN,
    Interval,
    Verdict,
    interval,
    latency,
    log_ratios,
    percentile,
    percentile_interval,
    verdict,
)


def around(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 30)


def test_a_candidate_twice_as_fast_has_a_log_ratio_of_log_two() -> None:
    np.testing.assert_allclose(log_ratios([200, 400], [100, 200]), [math.log(2)] * 2)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1, max_size=20))
def test_log_ratios_change_sign_when_the_sides_change_places(times: list[tuple[int, int]]) -> None:
    a, b = zip(*times, strict=True)
    np.testing.assert_allclose(log_ratios(a, b), -log_ratios(b, a))


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1]), ([], []), ([1, 0], [1, 1]), ([1], [-1])])
def test_times_that_are_no_pairs_are_refused(a: list[int], b: list[int]) -> None:
    with pytest.raises(ValueError, match=r"needed|positive"):
        log_ratios(a, b)


@pytest.mark.parametrize("shape", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize("pairs", [30, 100])
def test_the_interval_covers_the_true_median_about_as_often_as_it_says(shape: str, pairs: int) -> None:
    noise = np.random.default_rng(pairs)
    draw = {
        "normal": lambda: noise.normal(0, 0.1, pairs),
        "heavy": lambda: 0.05 * noise.standard_t(2, pairs),
        "skewed": lambda: noise.exponential(0.1, pairs) - 0.1 * math.log(2),
    }[shape]
    trials = 300
    found = [interval(0.3 + draw(), seed=i) for i in range(trials)]
    covered = sum(entry.low <= 0.3 <= entry.high for entry in found) / trials
    assert 0.91 <= covered <= 0.995


def test_the_interval_shrinks_with_more_pairs() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, 2000)
    assert interval(values).half_width < interval(values[:30]).half_width / 4


def test_one_wild_pair_in_thirty_does_not_move_the_interval_to_it() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.01, 30)
    values[7] = -3.0
    found = interval(values)
    assert 0.48 < found.low < found.high < 0.52


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, 40)
    assert interval(values, seed=3) == interval(values, seed=3)


def test_equal_pairs_give_an_interval_of_no_width() -> None:
    found = interval([0.25] * 30)
    assert (found.low, found.median, found.high) == (0.25, 0.25, 0.25)


def test_one_pair_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two pairs"):
        interval([0.1])


def test_reach_counts_a_bias_of_the_interval_and_half_width_does_not() -> None:
    found = around(0.02, 0.06)
    assert found.half_width == pytest.approx(0.02)
    assert found.reach == pytest.approx(0.06)
    assert around(-0.06, -0.02).reach == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("low", "high", "floor", "expected"),
    [
        (0.30, 0.40, 0.01, Verdict.FASTER),
        (-0.40, -0.30, 0.01, Verdict.SLOWER),
        (-0.01, 0.01, 0.005, Verdict.SAME),
        (0.005, 0.015, 0.001, Verdict.SAME),
        (0.01, 0.30, 0.005, Verdict.UNCLEAR),
        (-0.30, 0.30, 0.005, Verdict.UNCLEAR),
        (0.05, 0.08, 0.10, Verdict.UNCLEAR),
        (-0.08, -0.05, 0.10, Verdict.UNCLEAR),
        (-0.01, 0.01, 0.10, Verdict.UNCLEAR),
        (SAME_WITHIN, 0.05, 0.0, Verdict.UNCLEAR),
    ],
)
def test_verdict(low: float, high: float, floor: float, expected: Verdict) -> None:
    assert verdict(around(low, high), floor) is expected


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_more_noise_never_makes_a_verdict_surer(low: float, width: float, floor: float, more: float) -> None:
    ratio = around(low, low + width)
    calm, noisy = verdict(ratio, floor), verdict(ratio, floor + more)
    assert noisy in (calm, Verdict.UNCLEAR)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_the_verdict_turns_round_with_the_sides(low: float, width: float, floor: float) -> None:
    there = verdict(around(low, low + width), floor)
    back = verdict(around(-low - width, -low), floor)
    swapped = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    assert back is swapped.get(there, there)


def test_comparing_equals_gives_a_false_verdict_at_most_rarely() -> None:
    noise = np.random.default_rng(1)
    wrong = 0
    for i in range(200):
        first, second = (interval(noise.normal(0, 0.15, 30), seed=i) for _ in range(2))
        wrong += verdict(second, first.reach) in (Verdict.FASTER, Verdict.SLOWER)
    assert wrong <= 4


def test_a_difference_well_over_the_noise_is_always_found() -> None:
    noise = np.random.default_rng(2)
    for i in range(100):
        floor = interval(noise.normal(0, 0.15, 30), seed=i).reach
        assert verdict(interval(noise.normal(0.69, 0.15, 30), seed=i), floor) is Verdict.FASTER


def test_p99_needs_a_thousand_samples() -> None:
    assert latency(np.arange(1.0, 1000.0)).p99 is None
    assert latency(np.arange(1.0, 1001.0)).p99 == pytest.approx(np.percentile(np.arange(1, 1001), 99))


def test_p90_needs_thirty_samples() -> None:
    assert latency(np.ones(29)).p90 is None
    assert latency(np.ones(30)).p90 == 1.0


def test_the_summary_counts_every_sample_and_drops_none() -> None:
    samples = np.array([1.0, 1.0, 1.0, 1.0, 1000.0])
    found = latency(samples)
    assert (found.count, found.p50, found.mad, found.mean) == (5, 1.0, 0.0, 200.8)


@given(st.lists(st.integers(1, 10**9), min_size=1000, max_size=1100))
def test_percentiles_are_in_order(samples: list[int]) -> None:
    p50, p90, p99 = (percentile(np.asarray(samples, np.float64), q) for q in PERCENTILE_NEEDS)
    assert p50 is not None
    assert p90 is not None
    assert p99 is not None
    assert p50 <= p90 <= p99


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="at least one"):
        latency([])


@pytest.mark.parametrize("q", [50, 99])
def test_the_interval_of_a_percentile_holds_it_although_times_of_a_measurement_resemble_each_other(
    q: int,
) -> None:
    rng = np.random.default_rng(0)
    # a common part for each measurement and a part for each time: together normal with variance 2
    true = 10 + float(norm.ppf(q / 100)) * np.sqrt(2)
    hits = 0
    for _ in range(200):
        times = 10 + rng.standard_normal((60, 1)) + rng.standard_normal((60, 40))
        ends = percentile_interval(times, q)
        assert ends is not None
        hits += ends[0] <= true <= ends[1]
    assert hits >= 180


def test_a_percentile_near_the_largest_time_has_no_upper_end() -> None:
    ends = percentile_interval(np.arange(1.0, 1001.0).reshape(10, 100), 99)
    assert ends is not None
    assert ends[0] < 990
    assert ends[1] == np.inf


@pytest.mark.parametrize(("shape", "q"), [((10, 99), 99), ((1, 2000), 50)])
def test_too_few_times_or_measurements_give_no_interval(shape: tuple[int, int], q: int) -> None:
    assert percentile_interval(np.ones(shape), q) is None
