"""Every back end that runs here computes the same logits and is timed; every other says what it lacks."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress import artifact
from compress.artifact import RunFolder, compact_info
from compress.bench.backends import RunConfig, Runner, all_backends, check_reads, require_backend
from compress.bench.dense_network import build_calibrated_dense
from compress.bench.files import onnx_pair
from compress.bench.protocol.memory import peak_memory
from compress.core.errors import CompressError, Exit

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
HERE = ("ort-cpu", "openvino", "torch")


@pytest.fixture(scope="session")
def onnx_of_run(untouched_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = shutil.copytree(untouched_run, tmp_path_factory.mktemp("onnx") / untouched_run.name)
    with RunFolder.open(path, write=True) as run:
        return onnx_pair(run, compact_info(run)).compact


@pytest.fixture(scope="session")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((7, 1, 8, 8), dtype=np.float32)


def expected(model: torch.nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()  # type: ignore[no-any-return]


def loaded(name: str, run: Path, file: Path, config: RunConfig) -> Runner:
    runtime = require_backend(name, config)
    return runtime.load(file if ".onnx" in runtime.reads else run, config)


@pytest.mark.parametrize("batch", [3, 7, 16])
@pytest.mark.parametrize("name", HERE)
def test_any_number_of_images_gives_the_networks_logits(
    untouched_run: Path, onnx_of_run: Path, images: NDArray[np.float32], name: str, batch: int
) -> None:
    runner = loaded(name, untouched_run, onnx_of_run, RunConfig(batch, threads=1))
    reference = expected(artifact.load(untouched_run), images)
    np.testing.assert_allclose(runner.logits(images), reference, atol=1e-4)
    assert (runner.image_shape, runner.num_classes) == ((1, 8, 8), 10)


@pytest.mark.parametrize("name", HERE)
def test_times_are_of_the_host_alone_on_a_cpu(untouched_run: Path, onnx_of_run: Path, name: str) -> None:
    runner = loaded(name, untouched_run, onnx_of_run, RunConfig(2, threads=1))
    times = runner.run(4)
    assert (times.shape, times.dtype) == ((4,), np.int64)
    assert (times > 0).all()
    assert runner.load_ns > 0
    assert runner.device_ns is None
    runner.close()


@pytest.mark.parametrize("name", HERE)
def test_the_threads_asked_for_are_those_of_the_session(
    untouched_run: Path, onnx_of_run: Path, name: str
) -> None:
    key = {"ort-cpu": "intra_op_num_threads", "openvino": "inference_num_threads", "torch": "threads"}[name]
    runner = loaded(name, untouched_run, onnx_of_run, RunConfig(1, threads=1))
    assert runner.settings[key] == "1"


def test_openvino_computes_in_float32_for_one_request(onnx_of_run: Path) -> None:
    settings = all_backends()["openvino"].load(onnx_of_run, RunConfig(1, threads=1)).settings
    assert settings["inference_precision_hint"] == "f32"
    assert (settings["performance_hint"], settings["num_streams"]) == ("LATENCY", "1")


def test_openvino_reads_its_own_files(onnx_of_run: Path, images: NDArray[np.float32], tmp_path: Path) -> None:
    import openvino

    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Core().read_model(onnx_of_run), path, compress_to_fp16=False)
    runtime, config = all_backends()["openvino"], RunConfig(4, threads=1)
    np.testing.assert_allclose(
        runtime.load(path, config).logits(images),
        runtime.load(onnx_of_run, config).logits(images),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_openvino_names_a_file_it_cannot_read_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(CompressError, match=name) as caught:
        all_backends()["openvino"].load(tmp_path / name, RunConfig(1, threads=1))
    assert caught.value.exit is Exit.MISSING
    assert "\n" not in caught.value.message


def test_openvino_refuses_another_batch_size_than_the_files(tmp_path: Path) -> None:
    from compress.export.onnx.exporter import to_onnx

    path = tmp_path / "four.onnx"
    to_onnx(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), torch.zeros(1, 1, 8, 8), path,
            batch=4)  # fmt: skip
    with pytest.raises(CompressError, match="fixed batch size of 4"):
        all_backends()["openvino"].load(path, RunConfig(1, threads=1))


def test_torch_runs_the_dense_network_on_request(untouched_run: Path, images: NDArray[np.float32]) -> None:
    runner = all_backends()["torch"].load(untouched_run, RunConfig(7, 1, network="dense"))
    np.testing.assert_allclose(
        runner.logits(images), expected(build_calibrated_dense(untouched_run), images), atol=1e-5
    )
    compact = expected(artifact.load(untouched_run), images)
    assert np.abs(runner.logits(images) - compact).max() > 0.1


def test_channels_last_changes_the_layout_and_not_the_logits(
    untouched_run: Path, images: NDArray[np.float32]
) -> None:
    runtime = all_backends()["torch"]
    plain = runtime.load(untouched_run, RunConfig(7, 1))
    other = runtime.load(untouched_run, RunConfig(7, 1, channels_last=True))
    assert (plain.settings["memory_format"], other.settings["memory_format"]) == (
        "contiguous",
        "channels_last",
    )
    np.testing.assert_allclose(other.logits(images), plain.logits(images), atol=1e-4)


def test_torch_compile_gives_the_networks_logits(untouched_run: Path, images: NDArray[np.float32]) -> None:
    runner = require_backend("torch-compile", RunConfig(7, 1)).load(untouched_run, RunConfig(7, 1))
    np.testing.assert_allclose(
        runner.logits(images), expected(artifact.load(untouched_run), images), atol=1e-4
    )
    assert runner.settings["compile"] == "inductor"
    runner.close()


def test_torch_compile_without_a_compiler_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompressError, match="no-such-compiler") as caught:
        require_backend("torch-compile", RunConfig(1, 1))
    assert (caught.value.exit, caught.value.code) == (Exit.MISSING, "no-compiler")
    assert "apt install g++" in caught.value.hint


@NO_GPU
@pytest.mark.parametrize("name", ["ort-cuda", "ort-trt", "trt", "trt-rtx"])
def test_a_back_end_of_a_gpu_says_what_is_missing(name: str) -> None:
    with pytest.raises(CompressError, match=name) as caught:
        require_backend(name, RunConfig(1, 1))
    assert caught.value.exit is Exit.MISSING
    packages = [
        pip for module, pip in all_backends()[name].packages.items() if not importlib.util.find_spec(module)
    ]
    assert caught.value.hint.startswith(
        f"pip install {' '.join(packages)}" if packages else "install the NVIDIA"
    )


@NO_GPU
def test_torch_on_a_gpu_says_that_there_is_none() -> None:
    with pytest.raises(CompressError, match="NVIDIA GPU") as caught:
        require_backend("torch", RunConfig(1, 1, device="cuda"))
    assert caught.value.exit is Exit.MISSING


@NO_GPU
def test_a_provider_that_would_fall_back_to_the_cpu_is_an_error(
    onnx_of_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from compress.export.onnx.session import open_session

    with pytest.raises(CompressError) as caught:
        open_session(onnx_of_run, providers=[("CUDAExecutionProvider", {"device_id": "0"})])
    assert caught.value.code == "missing-provider"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "path"),
    [("ort-cpu", "run"), ("torch", "model.onnx"), ("openvino", "model.engine"), ("trt", "m.rtx.engine")],
)
def test_a_kind_of_file_that_a_back_end_does_not_read_is_refused_with_those_that_do(
    tmp_path: Path, name: str, path: str
) -> None:
    (tmp_path / path).touch() if "." in path else (tmp_path / path).mkdir()
    with pytest.raises(CompressError, match=path) as caught:
        check_reads(all_backends()[name], tmp_path / path)
    readers = {"run": "torch", "model.onnx": "ort-cpu", "model.engine": "trt", "m.rtx.engine": "trt-rtx"}
    assert readers[path] in caught.value.hint


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_the_memory_of_other_back_ends_is_measured_too(
    untouched_run: Path, onnx_of_run: Path, name: str
) -> None:
    path = onnx_of_run if name == "openvino" else untouched_run
    result = peak_memory(path, RunConfig(1, 1), name)
    assert result.peak > result.added > 0
