"""Energy counters, the reason where there are none, and throttled blocks of a GPU."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from made_results import batch, comparison, result, side
from numpy.typing import NDArray
from rich.console import Console

from compress.bench.protocol.energy import LOAD_NS, EnergyRecord, find_counters, rapl_counters
from compress.bench.protocol.gpu import GpuBlock, gpu_record, throttle_reasons
from compress.bench.results.record import BenchResult
from compress.bench.results.table import render_bench_table


def zone(root: Path, folder: str, name: str, used_uj: int, range_uj: int = 10_000_000) -> Path:
    """A zone as the kernel lays it out."""
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{used_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


class Consumer:
    """Adds to a zone's counter what each of its inferences uses."""

    device_ns = None

    def __init__(self, zone: Path, each_uj: int, range_uj: int) -> None:
        self._file, self._each, self._range = zone / "energy_uj", each_uj, range_uj

    def run(self, count: int) -> NDArray[np.int64]:
        used = int(self._file.read_text()) + count * self._each
        self._file.write_text(str(used % self._range))
        return np.ones(count, np.int64)


def test_packages_memory_and_platform_are_counted_and_their_parts_are_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:0:1", "dram", 2_500_000)
    zone(tmp_path, "intel-rapl:1", "psys", 1_000_000)
    counters = rapl_counters(tmp_path)
    assert not isinstance(counters, str)
    assert {c.source: c.read() for c in counters} == {
        "rapl package-0": 5.0,
        "rapl dram-0": 2.5,
        "rapl psys": 1.0,
    }


@pytest.mark.parametrize("start_uj", [0, 9_900_000])
def test_energy_is_that_of_one_inference_even_if_the_counter_wraps(tmp_path: Path, start_uj: int) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", start_uj)
    used = find_counters("none", tmp_path).measure(Consumer(path, 1000, 10_000_000), LOAD_NS / 500)
    assert [(e.source, e.inferences, round(e.joules, 9)) for e in used] == [("rapl package-0", 500, 0.001)]


def test_without_counters_the_reason_is_given_and_nothing_runs(tmp_path: Path) -> None:
    counters = find_counters("the back end uses no GPU", tmp_path / "powercap")
    assert counters.sources["rapl"].startswith("not available: there is no ")
    assert counters.sources["nvml"] == "not available: the back end uses no GPU"
    assert counters.measure(Consumer(tmp_path / "nowhere", 1, 1), 1.0) == ()


def test_an_unreadable_counter_is_reported(tmp_path: Path) -> None:
    path = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (path / "energy_uj").unlink()
    (path / "energy_uj").mkdir()
    reason = find_counters("none", tmp_path).sources["rapl"]
    assert reason.startswith("not available: ")
    assert "energy_uj cannot be read" in reason


def test_only_throttling_is_reported_as_a_reason() -> None:
    assert throttle_reasons(0x1 | 0x2 | 0x10 | 0x100) == ()
    assert throttle_reasons(0x4 | 0x40 | 0x1) == ("power cap", "hardware thermal slowdown")


def gpu_block(*throttled: str, mhz: int = 1980) -> GpuBlock:
    return GpuBlock(
        sm_mhz=mhz, memory_mhz=3201, celsius=60, watts=600.0, used_bytes=10**9, throttled=throttled
    )


def shown(bench_result: BenchResult) -> str:
    console = Console(width=2000, record=True, file=io.StringIO())
    console.print(render_bench_table(bench_result))
    return console.export_text()


def test_the_blocks_a_gpu_was_held_back_in_are_marked_in_record_and_table() -> None:
    gpu = gpu_record([gpu_block(), gpu_block("power cap", mhz=1400), gpu_block()])
    assert gpu.affected == (1,)
    text = shown(result(comparison(batch(gpu=gpu))))
    assert "throttled (power cap) after 1 of 3 blocks (2), at 1400 to 1400 MHz" in text
    assert "GPU after each block: 1400 to 1980 MHz, up to 60 degrees" in text
    assert "up to 1,000 MB of its memory" in text


def test_the_table_gives_energy_where_it_was_counted_and_the_reason_where_not() -> None:
    used = EnergyRecord(source="rapl package-0", joules=0.0123, watts=20.0, inferences=100)
    counted = batch(candidate={"energy": (used,)}, baseline=side("dense", 4.0, energy=(used,)))
    text = shown(result(comparison(counted, energy={"rapl": "counted: rapl package-0"})))
    assert "mJ (rapl package-0)" in text
    assert "12.3" in text
    assert "Energy: rapl not available: there is no /sys/class/powercap" in shown(result())
