from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from compress.bench.protocol.stats import (
    PERCENTILE_NEEDS,
    SAME_WITHIN,
    Interval,
    Verdict,
    interval,
    latency,
    log_ratios,
    over_sessions,
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
    with pytest.raises(ValueError, match=r"not pairs|positive"):
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
    results = [interval(0.3 + draw(), seed=i) for i in range(trials)]
    covered = sum(entry.low <= 0.3 <= entry.high for entry in results) / trials
    assert 0.91 <= covered <= 0.995


def test_the_interval_shrinks_with_more_pairs() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, 2000)
    assert interval(values).half_width < interval(values[:30]).half_width / 4


def test_one_wild_pair_in_thirty_does_not_move_the_interval_to_it() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.01, 30)
    values[7] = -3.0
    result = interval(values)
    assert 0.48 < result.low < result.high < 0.52


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, 40)
    assert interval(values, seed=3) == interval(values, seed=3)


def test_equal_pairs_give_an_interval_of_no_width() -> None:
    result = interval([0.25] * 30)
    assert (result.low, result.median, result.high) == (0.25, 0.25, 0.25)


def test_one_pair_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two pairs"):
        interval([0.1])


def test_reach_counts_a_bias_of_the_interval_and_half_width_does_not() -> None:
    result = around(0.02, 0.06)
    assert result.half_width == pytest.approx(0.02)
    assert result.reach == pytest.approx(0.06)
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


# --- sessions that differ ---------------------------------------------------------------------------------

TRUE = 0.3

EFFECTS = {
    "normal": lambda noise, count: noise.normal(0, 0.1, count),
    "heavy": lambda noise, count: 0.1 * noise.standard_t(2, count),
    "skewed": lambda noise, count: noise.exponential(0.3, count) - 0.3 * math.log(2),
    "two places": lambda noise, count: noise.choice([-0.15, 0.15], count) + noise.normal(0, 0.05, count),
}
"""What a session adds to all of its pairs, with a median of zero: where threads and memory came to lie."""


def sessions(noise: np.random.Generator, effect: str, count: int, pairs: int) -> list[np.ndarray]:
    """Log-ratios around `TRUE`: a part common to a session, and one of each pair."""
    own = EFFECTS[effect](noise, count)
    return [TRUE + one + noise.normal(0, 0.03, pairs) for one in own]


def coverage(find: Callable[[int], Interval], trials: int = 400) -> float:
    results = [find(i) for i in range(trials)]
    return sum(one.low <= TRUE <= one.high for one in results) / trials


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("count", [6, 9, 12])
def test_the_interval_over_six_sessions_or_more_holds_however_sessions_differ(
    effect: str, count: int
) -> None:
    noise = np.random.default_rng(count)
    assert coverage(lambda i: over_sessions(sessions(noise, effect, count, 6))) >= 0.93


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_over_few_sessions_holds_where_they_are_normal(count: int) -> None:
    noise = np.random.default_rng(count)
    assert 0.92 <= coverage(lambda i: over_sessions(sessions(noise, "normal", count, 10))) <= 0.98


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_interval_within_one_session_does_not_hold_where_sessions_differ(effect: str) -> None:
    noise = np.random.default_rng(0)
    assert coverage(lambda i: interval(sessions(noise, effect, 1, 36)[0], seed=i), 60) < 0.4


def test_resampling_three_sessions_would_not_hold() -> None:
    noise = np.random.default_rng(0)

    def resampled(i: int) -> Interval:
        return interval([np.median(one) for one in sessions(noise, "normal", 3, 10)], seed=i)

    assert coverage(resampled, 100) < 0.85


def test_one_session_alone_has_the_interval_of_its_pairs() -> None:
    values = np.random.default_rng(0).normal(0, 0.1, 40)
    assert over_sessions([values], seed=3) == interval(values, seed=3)


def test_the_interval_over_sessions_says_what_it_rests_on() -> None:
    result = over_sessions([[0.1, 0.2, 0.3], [0.3, 0.5], *[[0.3, 0.3]] * 3, [-0.1, -0.3]])
    assert (result.pairs, result.sessions) == (13, 6)
    assert (result.low, result.median, result.high) == pytest.approx((-0.2, 0.3, 0.4))


@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=4), min_size=2, max_size=14))
def test_the_median_of_the_sessions_lies_in_their_interval(parts: list[list[float]]) -> None:
    result = over_sessions(parts)
    assert result.low - 1e-12 <= result.median <= result.high + 1e-12


@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=4), min_size=2, max_size=14))
def test_the_interval_over_sessions_turns_round_with_the_sides(parts: list[list[float]]) -> None:
    there, back = over_sessions(parts), over_sessions([[-value for value in part] for part in parts])
    assert (-back.high, -back.low) == pytest.approx((there.low, there.high))


def said(noise: np.random.Generator, effect: str, count: int, pairs: int, true: float) -> Verdict:
    """The verdict on a simulated comparison, its A/A pairs shifted by sessions of the same kind."""
    same, other = (
        over_sessions([one - TRUE + shift for one in sessions(noise, effect, count, pairs)])
        for shift in (0.0, true)
    )
    return verdict(other, same.reach)


@pytest.mark.parametrize("effect", EFFECTS)
def test_six_sessions_call_equal_files_equal_or_unclear_where_one_session_does_not(effect: str) -> None:
    noise = np.random.default_rng(1)
    false = (Verdict.FASTER, Verdict.SLOWER)
    six = sum(said(noise, effect, 6, 6, 0.0) in false for _ in range(400))
    one = sum(said(noise, effect, 1, 36, 0.0) in false for _ in range(30))
    assert six <= 4
    assert one >= 8


@pytest.mark.parametrize("effect", EFFECTS)
def test_six_sessions_still_find_a_network_of_half_the_width(effect: str) -> None:
    noise = np.random.default_rng(2)
    results = [said(noise, effect, 6, 6, 1.5) for _ in range(100)]
    assert results.count(Verdict.FASTER) >= (85 if effect in ("heavy", "skewed") else 100)
    assert Verdict.SLOWER not in results


def test_p99_needs_a_thousand_samples() -> None:
    assert latency(np.arange(1.0, 1000.0)).p99 is None
    assert latency(np.arange(1.0, 1001.0)).p99 == pytest.approx(np.percentile(np.arange(1, 1001), 99))


def test_p90_needs_thirty_samples() -> None:
    assert latency(np.ones(29)).p90 is None
    assert latency(np.ones(30)).p90 == 1.0


def test_the_summary_counts_every_sample_and_drops_none() -> None:
    samples = np.array([1.0, 1.0, 1.0, 1.0, 1000.0])
    result = latency(samples)
    assert (result.count, result.p50, result.mad, result.mean) == (5, 1.0, 0.0, 200.8)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
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
