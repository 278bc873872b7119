"""The server scenario against queues with known solutions, on a virtual clock: exact and fast."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic import MS, md1_mean_wait, md1_p99, synthetic

from compress.bench.gate.scenario_limits import SCENARIO_VALUES
from compress.bench.scenarios import Scenario
from compress.bench.scenarios.clock import HostClock, VirtualClock
from compress.bench.scenarios.latency_summary import summarize_latencies
from compress.bench.scenarios.options import Options
from compress.bench.scenarios.rate_search import MAX_RATES, WITHIN, FixedRates, RateSearch
from compress.bench.scenarios.rates import Outcome, evaluate_rate, queries_per_round
from compress.bench.scenarios.record import Server
from compress.bench.scenarios.sentences import speed_change_warning
from compress.bench.scenarios.server import measure_server
from compress.bench.scenarios.serving import ServedRound, poisson_arrivals, serve, sizes_up_to

pytestmark = pytest.mark.usefixtures("short_rests")

HOLDS, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.FAILS, Outcome.UNDECIDED


def served(arrivals: NDArray[np.int64], services: NDArray[np.int64]) -> ServedRound:
    """Serve queries one by one, each with its own service time."""
    clock, left = VirtualClock(), iter(services.tolist())
    return serve(arrivals, lambda size: clock.advance(next(left)), clock)


def at_rate(qps: float, count: int, seed: int = 0, service_ns: int = MS) -> ServedRound:
    """Poisson arrivals, deterministic service: M/D/1."""
    return served(poisson_arrivals(qps, count, seed), np.full(count, service_ns))


# --- arrivals -------------------------------------------------------------------------------------------


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    seconds = poisson_arrivals(200, 100_000, seed=3) / 1e9
    gaps = np.diff(seconds, prepend=0.0)
    assert gaps.mean() == pytest.approx(1 / 200, rel=4 / math.sqrt(100_000))
    assert gaps.std() == pytest.approx(1 / 200, rel=0.02)  # of an exponential: its mean
    counts = np.bincount(seconds.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.3)  # of a Poisson number


def test_a_seed_gives_the_same_pattern_at_every_rate_and_another_in_each_part() -> None:
    assert poisson_arrivals(100, 50, seed=1) == pytest.approx(10 * poisson_arrivals(1000, 50, seed=1), abs=10)
    assert (poisson_arrivals(100, 50, seed=1) != poisson_arrivals(100, 50, seed=2)).any()
    assert (poisson_arrivals(100, 50, seed=1, part=0) != poisson_arrivals(100, 50, seed=1, part=1)).any()


# --- the queue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [0.3, 0.75])
def test_the_mean_wait_is_that_of_the_md1_queue(load: float) -> None:
    waits = at_rate(1000 * load, 100_000).wait_ns.reshape(50, -1).mean(axis=1) / MS
    error = waits.std(ddof=1) / math.sqrt(len(waits))
    assert abs(waits.mean() - md1_mean_wait(load, 1.0)) < 3.5 * error
    assert error < 0.1 * waits.mean()  # the check above would notice a tenth


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_the_p99_of_the_latency_is_that_of_the_md1_queue(load: float) -> None:
    result = summarize_latencies(at_rate(1000 * load, 200_000).latency_ns.reshape(40, -1)).p99
    assert result is not None
    assert result.high_ms is not None
    assert result.low_ms < md1_p99(load) < result.high_ms
    assert result.high_ms < 1.3 * result.low_ms


def test_utilisation_and_queue_follow_from_the_load() -> None:
    result = at_rate(600, 100_000)
    assert result.utilization == pytest.approx(0.6, rel=0.02)
    assert result.mean_queue == pytest.approx(0.6 * md1_mean_wait(0.6, 1.0), rel=0.05)  # Little


def test_waits_follow_lindleys_recursion_for_any_service_times() -> None:
    rng = np.random.default_rng(5)
    arrivals, services = poisson_arrivals(900, 5000, seed=9), rng.integers(1, 2 * MS, 5000)
    waits = [0]
    for gap, service in zip(np.diff(arrivals).tolist(), services.tolist(), strict=False):
        waits.append(max(0, waits[-1] + service - gap))
    assert served(arrivals, services).wait_ns.tolist() == waits


def test_a_stall_of_one_query_delays_the_queries_that_arrive_during_it() -> None:
    """Each is late by the rest of the stall; measured from when it is sent, only one would be late."""
    arrivals, services = np.arange(1, 1001) * 10 * MS, np.full(1000, MS)
    services[100] = 500 * MS
    late = served(arrivals, services).latency_ns
    expected = [500 - 9 * i for i in range(56)]  # each arrives 10 ms later and takes 1 ms
    assert (late[100:156] / MS).tolist() == expected
    assert (late[156:] == MS).all()
    assert (late > 100 * MS).sum() == 45
    assert float(np.percentile(late, 99)) > 400 * MS


def test_an_idle_worker_takes_the_largest_batch_that_the_waiting_queries_fill() -> None:
    clock, sizes = VirtualClock(), list[int]()

    def work(size: int) -> None:
        sizes.append(size)
        clock.advance(10 * MS)

    arrivals = np.array([0, 1, 2, 3, 4, 5, 6, 7, 100 * MS], np.int64)
    result = serve(arrivals, work, clock, (1, 2, 4))
    assert sizes == [1, 4, 2, 1, 1]  # 7 wait, then 3, then 1
    assert (np.diff(result.started) >= 0).all()
    assert result.finished[-1] == 110 * MS
    assert result.max_queue == 7


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (4, (1, 2, 4)), (6, (1, 2, 4, 6))])
def test_the_sizes_of_a_server_batch(largest: int, sizes: tuple[int, ...]) -> None:
    assert sizes_up_to(largest) == sizes


def test_the_host_clock_waits_until_the_given_time() -> None:
    clock = HostClock()
    until = clock.now() + 3 * MS
    clock.wait_until(until)
    assert clock.now() >= until
    clock.wait_until(until)  # past: returns


# --- deciding a rate ------------------------------------------------------------------------------------


def test_the_interval_of_the_p99_decides_the_outcome_of_a_rate() -> None:
    rounds = [at_rate(500, 5000, seed) for seed in range(4)]
    p99 = evaluate_rate(500, rounds, 1.0).times.p99
    assert p99 is not None
    assert p99.high_ms is not None
    assert evaluate_rate(500, rounds, p99.high_ms).outcome is HOLDS
    assert evaluate_rate(500, rounds, p99.ms).outcome is UNDECIDED
    assert evaluate_rate(500, rounds, 0.99 * p99.low_ms).outcome is FAILS


def test_an_offered_load_of_1_fails_at_any_bound() -> None:
    result = evaluate_rate(1100, [at_rate(1100, 1000)], 1e9)
    assert (result.outcome, result.load) == (FAILS, pytest.approx(1.1))
    assert "grows without limit" in result.reason


def test_full_batches_lower_the_offered_load() -> None:
    clock = VirtualClock()
    arrivals = poisson_arrivals(1500, 2000, seed=0)
    result = serve(arrivals, lambda size: clock.advance(MS), clock, (1, 2, 4))
    assert evaluate_rate(1500, [result], 10.0, largest=4, full_ns=MS).load == pytest.approx(1500 / 4000)


def test_there_is_no_p99_under_1000_queries_and_no_p90_under_30() -> None:
    few = summarize_latencies(np.arange(1, 991).reshape(10, -1))
    assert (few.count, few.p99) == (990, None)
    assert few.p90 is not None
    assert summarize_latencies(np.arange(1, 29).reshape(2, -1)).p90 is None
    assert summarize_latencies(np.arange(1, 1001).reshape(10, -1)).p99 is not None
    assert evaluate_rate(10, [at_rate(10, 990)], 100.0).outcome is UNDECIDED


def test_a_round_has_whole_blocks_and_lasts_a_second_if_the_network_can() -> None:
    assert queries_per_round(50, 1000, 400) == 1000
    assert queries_per_round(5001, 1000, 1e6) == 5010
    assert queries_per_round(1e9, 1000, 2000) == 2000


# --- searching ------------------------------------------------------------------------------------------


def searched(truth: float, capacity: float = 1000.0, unclear: float = 1.0) -> tuple[list[float], list[float]]:
    """Return the rates that meet and exceed a bound met up to `truth`; within `unclear` none is decided."""
    search, holds, fails = RateSearch(capacity), list[float](), list[float]()
    while (qps := search.next()) is not None:
        near = truth / unclear < qps < truth * unclear
        outcome = UNDECIDED if near else HOLDS if qps <= truth else FAILS
        search.record(qps, outcome)
        {HOLDS: holds, FAILS: fails, UNDECIDED: []}[outcome].append(qps)
    assert search.ended
    return holds, fails


@pytest.mark.parametrize("truth", [130.0, 400.0, 501.0, 740.0, 999.0, 5000.0])
def test_a_search_brackets_the_largest_rate(truth: float) -> None:
    holds, fails = searched(truth)
    assert max(holds) <= truth < min(fails)
    assert min(fails) <= WITHIN * max(holds)
    assert len(holds) + len(fails) <= MAX_RATES


def test_a_search_continues_around_undecided_rates() -> None:
    holds, fails = searched(700.0, unclear=1.2)
    assert 700 / 1.2 / WITHIN <= max(holds) <= 700 / 1.2
    assert 700 * 1.2 <= min(fails) <= 700 * 1.2 * WITHIN


def test_a_search_ends_if_no_rate_meets_the_bound() -> None:
    search, tried = RateSearch(1000), list[float]()
    while (qps := search.next()) is not None:
        tried.append(qps)
        search.record(qps, FAILS)
    assert tried == [500, 250, 125, 62.5]
    assert "no rate" in search.ended


def test_all_given_rates_are_measured() -> None:
    given, tried = FixedRates((50, 100)), list[float]()
    while (qps := given.next()) is not None:
        tried.append(qps)
        given.record(qps, FAILS)
    assert tried == [50, 100]


# --- the whole scenario with known service times --------------------------------------------------------


def scenario(**other: object) -> Options:
    return Options.model_validate({"scenarios": (Scenario.SERVER,), "queries": 2000, **other})


@pytest.mark.slow
def test_the_largest_rates_are_those_of_the_md1_queue() -> None:
    networks = synthetic()
    bound_ms = 2 * md1_p99(0.7)  # so that dense holds 70% of its 500 queries a second
    progress = list[tuple[str, float]]()
    options = scenario(p99_bound_ms=bound_ms)
    result = measure_server(networks, options, None, lambda *what: progress.append(what), networks.clock)
    truth = {"dense": 350.0, "compact": next(q for q in range(500, 1000) if md1_p99(q / 1000) > bound_ms)}
    for side in (result.baseline, result.candidate):
        assert side.holds_qps is not None
        assert side.fails_qps is not None
        assert 0.75 * truth[side.label] < side.holds_qps < truth[side.label] < side.fails_qps
    assert result.ratio == pytest.approx(result.candidate.holds_qps / result.baseline.holds_qps)
    assert result.ratio_low < truth["compact"] / truth["dense"] < result.ratio_high
    assert all(entry.times.count >= 2000 for entry in result.baseline.rates)
    assert progress


def test_the_default_bound_is_a_recorded_multiple_of_the_dense_latency() -> None:
    networks = synthetic()
    result = measure_server(networks, scenario(qps=(100.0,)), None, lambda *what: None, networks.clock)
    assert result.bound_ms == 20.0
    assert "10 times the median of dense" in result.bound_from


def test_both_networks_get_the_same_arrival_pattern() -> None:
    networks = synthetic(lambda batch: MS, lambda batch: MS)
    options = scenario(qps=(200.0, 2000.0), p99_bound_ms=20.0)
    result = measure_server(networks, options, None, lambda *what: None, networks.clock)
    assert result.baseline.rates == result.candidate.rates
    assert (result.baseline.holds_qps, result.baseline.fails_qps) == (200, 2000)
    assert (result.ratio, result.ratio_low, result.ratio_high) == pytest.approx((1.0, 0.1, 10.0))


def test_batching_raises_the_rate_that_meets_the_bound() -> None:
    def alone_or_many(batch: int) -> int:
        return MS

    networks = synthetic(alone_or_many, alone_or_many)
    rates = scenario(qps=(2000.0,), p99_bound_ms=20.0, max_server_batch=4)
    result = measure_server(networks, rates, None, lambda *what: None, networks.clock)
    entry = result.candidate.rates[0]
    assert (entry.outcome, entry.load) == (HOLDS, pytest.approx(0.5))
    assert 1 < entry.mean_batch <= 4


def test_a_rate_beyond_the_capacity_fails_at_any_bound() -> None:
    networks = synthetic()
    result = measure_server(
        networks, scenario(qps=(600.0,), p99_bound_ms=1e9), None, lambda *what: None, networks.clock
    )
    assert (result.baseline.holds_qps, result.candidate.holds_qps) == (None, 600)
    assert result.ratio is None


# --- a machine whose speed changes ----------------------------------------------------------------------


def at_times_slower(now: int) -> float:
    """Alternate 40 s at full speed and 40 s at 70% of it."""
    return 1.0 if now // (40 * 1000 * MS) % 2 == 0 else 1 / 0.7


@pytest.fixture(scope="module")
def unsteady() -> Server:
    """Dense and compact on a machine whose speed changes."""
    networks = synthetic(slowness=at_times_slower)
    options = scenario(p99_bound_ms=2 * md1_p99(0.7))
    return measure_server(networks, options, None, lambda *what: None, networks.clock)


@pytest.mark.slow
def test_the_ratio_of_the_rates_is_corrected_to_one_speed(unsteady: Server) -> None:
    bound_ms = 2 * md1_p99(0.7)
    compact = next(q for q in range(500, 1000) if md1_p99(q / 1000) > bound_ms)
    assert unsteady.ratio_low is not None
    assert unsteady.ratio_high is not None
    assert unsteady.ratio_low < compact / 350 < unsteady.ratio_high


def test_a_change_of_speed_is_reported(unsteady: Server) -> None:
    for side in (unsteady.baseline, unsteady.candidate):
        slow, fast = side.capacities or (1.0, 1.0)
        assert fast > 1.3 * slow
    message = speed_change_warning(unsteady)
    assert message is not None
    assert "dense 350 to 500 and compact 700 to 1,000 queries/s" in message
    networks = synthetic()
    steady = measure_server(networks, scenario(qps=(100.0, 300.0)), None, lambda *what: None, networks.clock)
    assert speed_change_warning(steady) is None
    assert steady.baseline.at_one_speed == pytest.approx((300.0, None))


def test_a_quality_gate_on_the_rate_covers_both_speeds(unsteady: Server) -> None:
    of, side = SimpleNamespace(server=unsteady), unsteady.candidate
    result = SCENARIO_VALUES["server_qps_min"](of)  # type: ignore[arg-type]
    (holds, fails), seen = side.at_one_speed, (side.holds_qps, side.fails_qps)
    assert holds is not None
    assert fails is not None
    assert result.low == min(holds, seen[0] or 0.0)
    assert result.high == pytest.approx(max(fails, seen[1] or 0.0))
