from __future__ import annotations

import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.bench.backends import RunConfig, all_backends, get_backend
from compress.bench.protocol.machine import OthersLoad, cpu_state, default_threads, wait_for_rest
from compress.bench.protocol.memory import peak_memory
from compress.core.errors import CompressError, Exit
from compress.export.onnx.exporter import to_onnx


def test_ort_cpu_is_a_registered_back_end() -> None:
    assert all_backends()["ort-cpu"].name == "ort-cpu"


def test_an_unknown_back_end_is_refused_with_the_nearest_and_all() -> None:
    with pytest.raises(CompressError) as caught:
        get_backend("ort-cup")
    assert caught.value.exit is Exit.USAGE
    assert "Did you mean ort-cpu" in caught.value.hint


@pytest.mark.parametrize("batch", [1, 3])
def test_a_runner_gives_one_positive_time_an_inference(narrow: Path, batch: int) -> None:
    runner = get_backend("ort-cpu").load(narrow, RunConfig(batch=batch, threads=1))
    times = runner.run(5)
    assert times.shape == (5,)
    assert times.dtype == np.int64
    assert (times > 0).all()
    assert runner.load_ns > 0
    runner.close()


def test_a_file_of_another_fixed_batch_size_is_refused(tmp_path: Path) -> None:
    to_onnx(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(1, 1, 8, 8), tmp_path / "m.onnx", batch=4
    )
    with pytest.raises(CompressError, match="fixed batch size of 4") as caught:
        get_backend("ort-cpu").load(tmp_path / "m.onnx", RunConfig(batch=1, threads=1))
    assert "--batch 4" in caught.value.hint


def test_the_options_of_a_session_are_told(narrow: Path) -> None:
    options = get_backend("ort-cpu").load(narrow, RunConfig(batch=1, threads=2)).settings
    assert options["intra_op_num_threads"] == "2"
    assert options["providers"] == "CPUExecutionProvider"
    assert "spinning" in " ".join(options)


def test_a_wider_network_needs_more_memory(wide: Path, narrow: Path) -> None:
    assert peak_memory(wide, RunConfig(64, 1)).added > peak_memory(narrow, RunConfig(64, 1)).added > 0


def test_the_peak_is_of_the_started_process_and_not_of_this_one(narrow: Path) -> None:
    ballast = np.ones(60_000_000)  # 480 MB held here must not show there
    assert peak_memory(narrow, RunConfig(1, 1)).peak < ballast.nbytes


def test_memory_of_a_damaged_file_is_an_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(CompressError, match=r"bad\.onnx") as caught:
        peak_memory(tmp_path / "bad.onnx", RunConfig(1, 1))
    assert "\n" not in caught.value.message


def test_default_threads_are_at_least_one_and_at_most_the_usable_cores() -> None:
    assert 1 <= default_threads() <= max(1, torch.multiprocessing.cpu_count())


def test_the_load_average_has_three_numbers() -> None:
    load = cpu_state().load_average
    assert load is None or len(load) == 3


def test_the_process_is_at_rest_when_nothing_computes() -> None:
    assert wait_for_rest(limit_s=5.0)


def test_a_computing_thread_keeps_the_process_from_rest() -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            zlib.crc32(bytes(1_000_000))  # releases the interpreter's lock, as a runtime's workers do

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        # on a busy machine the thread may wait for a processor through one look, not through all
        assert not all(wait_for_rest(limit_s=0.1) for _ in range(20))
    finally:
        stop.set()
        thread.join()


def test_what_this_process_computes_is_not_the_load_of_others() -> None:
    others = OthersLoad()
    for _ in range(300):
        zlib.crc32(bytes(1_000_000))
    assert 0.0 <= others.share() < 1.0
