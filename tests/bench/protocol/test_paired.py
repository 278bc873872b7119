"""The order of measuring, on runners that keep a diary and a clock of their own."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.bench.protocol import paired, stats
from compress.bench.protocol.paired import (
    MEASURE_NS,
    MIN_PAIRS,
    collector_off,
    compare_in_pairs,
    repeats_for,
    warm_up,
)

pytestmark = pytest.mark.usefixtures("short_rests")


class Diary:
    """A clock that runners move, and what they did in which order."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.entries: list[tuple[str, int]] = []

    def seconds(self) -> float:
        return self.now_ns / 1e9


class ModelledRunner:
    """A runner whose time is a function of the inference's number and of the clock."""

    device_ns: NDArray[np.int64] | None = None

    def __init__(self, name: str, diary: Diary, time_ns: Callable[[int, int], float]) -> None:
        self.name, self.diary, self.time_ns = name, diary, time_ns
        self.done = 0
        self.collecting: list[bool] = []

    def run(self, count: int) -> NDArray[np.int64]:
        self.diary.entries.append((self.name, count))
        self.collecting.append(gc.isenabled())
        times = np.empty(count, np.int64)
        for i in range(count):
            times[i] = self.time_ns(self.done, self.diary.now_ns)
            self.diary.now_ns += int(times[i])
            self.done += 1
        return times


def steady(ns: float) -> Callable[[int, int], float]:
    return lambda number, now: ns


def test_blocks_alternate_as_abba() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(4e6)), ModelledRunner("b", diary, steady(4e6))
    compare_in_pairs(a, b, typical_ns=(4e6, 4e6), pairs=10)
    assert "".join(name for name, count in diary.entries if count == 5) == "abba" * 5


def test_a_runner_that_takes_over_leads_in_untimed() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(4e6)), ModelledRunner("b", diary, steady(1e6))
    result = compare_in_pairs(a, b, typical_ns=(4e6, 1e6), pairs=10)
    block = [("a", 5), ("b", 5), ("b", 20), ("b", 20), ("a", 2), ("a", 5)]
    assert diary.entries == [("a", 2), *block * 5]
    assert result.repeats == (5, 20)
    assert (len(result.a_ns), len(result.b_ns)) == (50, 200)


@pytest.mark.parametrize("typical", [1.0, 333.0, 5e5, 1.9e7, 2e7, 5e9])
def test_a_measurement_lasts_at_least_as_long_as_promised(typical: float) -> None:
    count = repeats_for(typical)
    assert count * typical >= MEASURE_NS
    assert count == 1 or (count - 1) * typical < MEASURE_NS


@pytest.mark.parametrize(("asked", "measured"), [(10, 10), (11, 12), (30, 30)])
def test_pairs_are_rounded_up_to_whole_blocks(asked: int, measured: int) -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(3e7)), ModelledRunner("b", diary, steady(3e7))
    assert compare_in_pairs(a, b, typical_ns=(3e7, 3e7), pairs=asked).ratio.pairs == measured


def test_a_known_ratio_is_found() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(30e6)), ModelledRunner("b", diary, steady(10e6))
    result = compare_in_pairs(a, b, typical_ns=(30e6, 10e6))
    assert math.exp(result.ratio.median) == pytest.approx(3.0)


def test_a_steady_drift_cancels_in_the_blocks() -> None:
    diary = Diary()

    def heating(number: int, now: int) -> float:
        return 25e6 * (1 + 0.2 * now / 1e9)

    a, b = ModelledRunner("a", diary, heating), ModelledRunner("b", diary, heating)
    result = compare_in_pairs(a, b, typical_ns=(25e6, 25e6))
    assert abs(result.ratio.median) < 1e-3
    assert result.a_ns[-1] > 1.3 * result.a_ns[0]


def test_load_that_comes_and_goes_slows_both_sides_of_a_pair() -> None:
    diary = Diary()
    noise = np.random.default_rng(0)

    def loaded(base: float) -> Callable[[int, int], float]:
        return lambda number, now: base * (3.0 if now // 10**9 % 2 else 1.0) * noise.lognormal(0, 0.02)

    a, b = ModelledRunner("a", diary, loaded(2e6)), ModelledRunner("b", diary, loaded(1e6))
    result = compare_in_pairs(a, b, typical_ns=(2e6, 1e6), pairs=60)
    assert result.ratio.low < math.log(2) < result.ratio.high or abs(result.ratio.median - math.log(2)) < 0.02


def test_a_budget_decides_how_many_pairs_are_measured() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(25e6)), ModelledRunner("b", diary, steady(25e6))
    result = compare_in_pairs(a, b, typical_ns=(25e6, 25e6), budget_s=5.0, clock=diary.seconds)
    block_s = 6 * 0.025
    assert 5.0 <= diary.seconds() < 5.0 + block_s
    assert result.ratio.pairs == 2 * math.ceil((5.0 - 0.025) / block_s)


def test_a_budget_too_small_still_measures_the_fewest_pairs() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(25e6)), ModelledRunner("b", diary, steady(25e6))
    result = compare_in_pairs(a, b, typical_ns=(25e6, 25e6), budget_s=0.001, clock=diary.seconds)
    assert result.ratio.pairs == MIN_PAIRS


def test_progress_ends_at_one() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(25e6)), ModelledRunner("b", diary, steady(25e6))
    progress: list[float] = []
    compare_in_pairs(a, b, typical_ns=(25e6, 25e6), pairs=11, report=progress.append)
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_the_garbage_collector_rests_while_measuring_and_works_again_after() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(25e6)), ModelledRunner("b", diary, steady(25e6))
    assert gc.isenabled()
    warm_up(a)
    compare_in_pairs(a, b, typical_ns=(25e6, 25e6), pairs=10)
    assert not any(a.collecting + b.collecting)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_warm_up_reports_the_first_inference_apart() -> None:
    runner = ModelledRunner("a", Diary(), lambda number, now: 80e6 if number == 0 else 1e6)
    result = warm_up(runner)
    assert result.first_ns == 80_000_000
    assert result.typical_ns == 1e6
    assert result.count == runner.done


def test_the_warm_up_lasts_its_least_time() -> None:
    result = warm_up(ModelledRunner("a", Diary(), steady(1e5)))
    assert result.settled
    assert result.total_ns >= paired.WARM_UP_NS


def test_the_warm_up_goes_on_until_the_median_settles() -> None:
    def cooling(number: int, now: int) -> float:
        return 1e6 * (1 + 9 * math.exp(-now / 0.5e9))

    result = warm_up(ModelledRunner("a", Diary(), cooling))
    assert result.settled
    assert result.total_ns > 2 * paired.WARM_UP_NS
    assert result.typical_ns == pytest.approx(1e6, rel=0.2)


def test_a_median_that_never_settles_ends_the_warm_up_at_its_limit_and_is_told() -> None:
    diary = Diary()

    def rising(number: int, now: int) -> float:
        return 1e6 * 1.6 ** (now / 1e8)

    result = warm_up(ModelledRunner("a", diary, rising), at_most_ns=1_000_000_000)
    assert not result.settled
    assert result.total_ns >= 1_000_000_000


def test_a_comparison_with_itself_under_noise_is_not_called_faster_or_slower() -> None:
    noise = np.random.default_rng(5)
    wrong = 0
    for _ in range(8):
        diary = Diary()
        runners = [
            ModelledRunner(name, diary, lambda number, now: 2.5e7 * noise.lognormal(0, 0.2)) for name in "abc"
        ]
        same = compare_in_pairs(runners[0], runners[1], typical_ns=(2.5e7, 2.5e7))
        other = compare_in_pairs(runners[0], runners[2], typical_ns=(2.5e7, 2.5e7))
        wrong += stats.verdict(other.ratio, same.ratio.reach) in (stats.Verdict.FASTER, stats.Verdict.SLOWER)
    assert wrong == 0


def test_times_of_the_device_are_compared_apart_from_those_of_the_host() -> None:
    class OnDevice(ModelledRunner):
        def run(self, count: int) -> NDArray[np.int64]:
            host = super().run(count)
            self.device_ns = host // (4 if self.name == "b" else 2)
            return host

    diary = Diary()
    a, b = OnDevice("a", diary, steady(4e6)), OnDevice("b", diary, steady(4e6))
    result = compare_in_pairs(a, b, typical_ns=(4e6, 4e6), pairs=10, clock=diary.seconds)
    assert result.ratio.median == pytest.approx(0.0)
    assert result.device is not None
    assert result.device.ratio.median == pytest.approx(math.log(2))
    assert len(result.device.a_ns) == len(result.a_ns)


def test_without_a_device_there_are_no_times_of_one() -> None:
    diary = Diary()
    a, b = ModelledRunner("a", diary, steady(4e6)), ModelledRunner("b", diary, steady(4e6))
    assert compare_in_pairs(a, b, typical_ns=(4e6, 4e6), pairs=10, clock=diary.seconds).device is None
