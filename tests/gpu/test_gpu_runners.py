"""Back ends on a GPU: the logits of the CPU, both clocks, CUDA graphs, and a whole benchmark.

TensorRT and TensorRT-RTX are skipped where the package is missing or the GPU is not one of theirs.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import compress
from compress.artifact import RunFolder, compact_info
from compress.bench import BackendOptions, bench, scenarios
from compress.bench.backends import FOLDER, RunConfig, Runner, all_backends, require_backend
from compress.bench.evaluate import evaluate_any
from compress.bench.files import Prepared
from compress.bench.scenarios.memory_limit import is_out_of_memory
from compress.core.errors import CompressError
from compress.pipeline import run_training

NAMES = ("torch", "torch-compile", "ort-cuda", "ort-trt", "trt", "trt-rtx")
CONFIG = RunConfig(4, threads=2, device="cuda")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    run_training(
        compress.TrainRequest(
            method="dcff",
            model="vgg_small",
            data="digits",
            target="macs=0.5",
            out=path,
            settings={"epochs": 3, "batch_size": 32, "lr": 0.05, "device": "cuda", "tensorboard": False},
        )
    )
    return path


def loaded(name: str, run: Path, config: RunConfig = CONFIG) -> Runner:
    """Load the compact network, or skip with what this machine lacks."""
    missing = [m for m in all_backends()[name].packages if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    runtime = require_backend(name, config)
    if FOLDER in runtime.reads:
        return runtime.load(run, config)
    with RunFolder.open(run, write=True) as folder:
        pair = Prepared(folder).pair(runtime, [config.batch])
    try:
        hashes = pair.hashes
        return runtime.load(pair.compact, replace(config, sha256=hashes[1] if hashes else None))
    except CompressError as error:
        if error.code in ("missing-provider", "bad-engine"):
            pytest.skip(error.message)
        raise


@pytest.mark.parametrize("graph", [False, True], ids=["launched", "cuda graph"])
@pytest.mark.parametrize("name", NAMES)
def test_the_logits_are_those_of_the_cpu(name: str, graph: bool, run: Path) -> None:
    torch.backends.cudnn.allow_tf32 = False
    runner = loaded(name, run, replace(CONFIG, cuda_graph=graph))
    shape = compact_info(run).model.input_size
    images = np.random.default_rng(0).standard_normal((10, *shape), dtype=np.float32)
    with torch.inference_mode():
        expected = compress.load(run)(torch.from_numpy(images)).numpy()
    result = runner.logits(images)
    assert np.abs(result - expected).max() <= 1e-3 * np.abs(expected).max()
    np.testing.assert_array_equal(runner.logits(images), result)  # a second replay reads the new input
    runner.close()


@pytest.mark.parametrize("name", NAMES)
def test_device_time_lies_within_host_time(name: str, run: Path) -> None:
    runner = loaded(name, run)
    runner.run(20)
    host = runner.run(50)
    device = runner.device_ns
    assert device is not None
    assert host.shape == device.shape == (50,)
    assert (device > 0).all()
    assert np.median(device) <= np.median(host)
    runner.close()


@pytest.mark.parametrize("name", ["torch", "ort-cuda", "trt", "trt-rtx"])
def test_what_was_chosen_is_recorded(name: str, run: Path) -> None:
    settings = loaded(name, run, replace(CONFIG, cuda_graph=True, transfers=True)).settings
    assert (settings["cuda_graph"], settings["transfers"]) == ("on", "on")
    assert settings["gpu"] == torch.cuda.get_device_name()


@pytest.mark.parametrize("name", ["trt", "trt-rtx"])
def test_an_engine_that_was_changed_is_not_deserialized(name: str, run: Path) -> None:
    loaded(name, run).close()
    path = run / "bench" / "models" / f"compact{all_backends()[name].reads[0]}"
    with pytest.raises(CompressError, match="changed while it was being opened"):
        all_backends()[name].load(path, replace(CONFIG, sha256="0" * 64))
    with pytest.raises(CompressError, match="cannot be verified"):
        all_backends()[name].load(path, CONFIG)


def test_a_benchmark_gives_both_times_and_the_speed_up_by_both_clocks(run: Path) -> None:
    choices = BackendOptions(device="cuda", channels_last=True, transfers=True)
    result = bench(run, backend="torch", pairs=10, choices=choices).comparisons[0]
    assert result.session["memory_format"] == "channels_last"
    assert "includes the copies" in result.timed
    entry = result.batches[0]
    assert entry.device_speedup is not None
    for side in (entry.baseline, entry.candidate):
        assert side.device is not None
        assert 0 < side.device.p50_ms <= side.p50_ms


@pytest.mark.parametrize("name", ["torch", "ort-cuda"])
def test_the_accuracy_is_that_of_the_cpu(name: str, run: Path) -> None:
    loaded(name, run).close()
    result = evaluate_any(run, backend=name, device="cuda").result
    assert result.top1 == pytest.approx(evaluate_any(run).result.top1, abs=0.01)


def test_the_scenarios_are_measured_on_the_gpu_and_watch_its_memory(run: Path) -> None:
    options = scenarios.options("offline,server", pairs=10, max_batch=4, qps="100", p99_bound_ms=1000)
    result = scenarios.run_scenarios(
        run, options=options, backend="torch", choices=BackendOptions(device="cuda")
    )
    comparison = result.comparisons[0]
    assert comparison.offline is not None
    assert [entry.batch for entry in comparison.offline.batches] == [1, 2, 4]
    assert comparison.server is not None
    assert (comparison.server.baseline.holds_qps, comparison.server.candidate.holds_qps) == (100, 100)


def test_an_out_of_memory_of_cuda_is_told_from_other_errors() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**45, dtype=torch.float64, device="cuda")
    assert is_out_of_memory(caught.value)
