"""The latency benchmark in its small form: what is measured, what is absent and why, and going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu_latency, gpu_probe, latency_files
from compress.bench.backends import all_backends
from compress.bench.results.record import BenchResult
from compress.core.errors import CompressError

RECIPE = """
model = "vgg_small"
data = "digits"
num_classes = 10
input_size = [1, 8, 8]
[train]
warmup_epochs = 2.0
epochs = 9
[drop]
"features.*" = [0.5]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return str(path)


Made = tuple[Path, latency_files.RunPair]


@pytest.fixture(scope="module")
def made(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A folder of made networks, and the two in it."""
    work = tmp_path_factory.mktemp("work")
    return work, latency_files.train_on_noise(recipe, work / "small", "cpu")


def test_made_networks_are_the_recipes_dense_and_narrow_ones(made: Made) -> None:
    dense, compact = made[1].costs
    assert dense.dense == dense.compact == compact.dense and compact.compact.macs < dense.compact.macs
    assert (dense.method, compact.method, made[1].is_random) == ("dense", "scratch", True)


def test_small_form_measures_writes_and_goes_on(
    recipe: str,
    made: Made,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_probe, "QUESTIONS", {})
    words = ["--networks", recipe, "--backends", "ort-cpu", "--batches", "2", "--precisions", "fp32",
             "--threads", "1", "--work", str(made[0]), "--out", str(tmp_path)]  # fmt: skip
    assert gpu_latency.main(words) == 0
    captured = capfd.readouterr()
    assert "making" not in captured.err, "made networks are kept"
    record = json.loads((tmp_path / "gpu_latency_cpu.json").read_text())
    (row,) = record["rows"]
    assert (row["backend"], row["precision"], row["batch"]) == ("ort-cpu", "fp32", 2)
    assert row["low"] <= row["speedup"] <= row["high"] and row["pairs"] >= 10
    (network,) = record["networks"].values()
    assert row["mac_reduction"] == pytest.approx(network["dense"]["macs"] / network["compact"]["macs"])
    assert network["compact"]["macs"] < network["dense"]["macs"] and row["compact_bytes"] < row["dense_bytes"]
    assert record["form"] == "small form, CPU" and record["failures"] == []
    names = {one["backend"]: one["reason"] for one in record["absent"]}
    assert {*names, "ort-cpu"} == set(all_backends()) and "NVIDIA GPU" in names["ort-cuda"]
    assert "dense against compact" in captured.out

    assert gpu_latency.main(words) == 0
    again = json.loads((tmp_path / "gpu_latency_cpu.json").read_text())
    assert again["rows"] == [row], "measured parts are kept"


def broken(*_: object) -> BenchResult:
    raise CompressError("the file cannot be made")


def test_part_that_fails_is_recorded_with_its_reason_and_not_tried_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_latency, "measure", broken)
    form = gpu_latency.Form("test", "cpu", (1,), ("fp32", "int8"), ("ort-cpu",), 10, 1)
    session = gpu_latency.ProfileSession(form, tmp_path, [], False)
    assert gpu_latency.measure_network(session, "tiny", made[1], ["ort-cpu", "torch"], float("inf"))
    kept = json.loads((tmp_path / "gpu_latency_cpu.json").read_text())
    results = [(one["precision"], one["backend"], one["reason"]) for one in kept["failures"]]
    reason = "the file cannot be made"
    assert results == [("fp32", "ort-cpu", reason), ("fp32", "torch", reason), ("int8", "ort-cpu", reason)]
    again = gpu_latency.ProfileSession(form, tmp_path, [], False)
    assert again.done({"network": "tiny", "precision": "fp32", "backend": "torch"})
    assert not again.done({"network": "tiny", "precision": "int8", "backend": "torch"})
    assert not gpu_latency.ProfileSession(form, tmp_path, [], True).record["failures"]


def test_no_part_is_begun_when_the_time_is_up(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_latency, "measure", broken)
    form = gpu_latency.Form("test", "cpu", (1,), ("fp32",), ("ort-cpu",), 10, 1)
    session = gpu_latency.ProfileSession(form, tmp_path, [], False)
    assert not gpu_latency.measure_network(session, "tiny", made[1], ["ort-cpu"], 0.0)
    assert not session.record["failures"]


def test_modules_are_measured_in_fp32_only() -> None:
    known = all_backends()
    options = gpu_latency.PRECISIONS
    assert latency_files.supported_precisions(known["torch"], options) == ["fp32"]
    assert latency_files.supported_precisions(known["ort-cpu"], options) == list(options)


def test_back_ends_of_the_cpu_get_small_batches_beside_a_gpu() -> None:
    form = gpu_latency.Form("GPU", "cuda", gpu_latency.BATCHES, ("fp32",), (), 30, 1)
    assert form.batches_on("ort-cpu") == [1, 8] and form.batches_on("ort-cuda") == [1, 8, 32, 128, 256]


def test_probe_says_yes_of_a_back_end_that_computes_the_same() -> None:
    result = gpu_probe.run_once("openvino")
    assert result["answer"] == "yes" and result["difference"] < 1e-3


def test_probe_does_not_ask_where_something_is_missing() -> None:
    result = gpu_probe.run_once("ort-trt")
    assert result["answer"] == "not asked" and result["message"]


def test_answer_comes_from_a_process_of_its_own_with_what_it_depends_on() -> None:
    result = gpu_probe.answer("ort-cuda")
    assert result["backend"] == "ort-cuda" and result["question"].endswith(("?", ")"))
    assert result["answer"] in ("yes", "no", "not asked") and result["packages"]
    if result["gpu"] is None:
        assert result["answer"] == "not asked"


def test_process_that_dies_has_answered_no() -> None:
    result = gpu_probe.answer("no-such-back-end", timeout_s=0.01)
    assert result["answer"] == "no" and "0.01 s" in result["message"]


def test_dense_and_compact_runs_belong_together(capfd: pytest.CaptureFixture[str]) -> None:
    assert gpu_latency.main(["--dense", "runs/dense"]) == 2
    assert "--compact" in capfd.readouterr().err
