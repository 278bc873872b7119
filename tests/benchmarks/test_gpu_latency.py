"""The latency benchmark in its small form: results, back ends that are not measured, and resuming."""

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


NoiseRuns = tuple[Path, latency_files.RunPair]


@pytest.fixture(scope="module")
def noise_runs(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> NoiseRuns:
    """A folder of networks trained on noise, and the pair in it."""
    work = tmp_path_factory.mktemp("work")
    return work, latency_files.train_on_noise(recipe, work / "small", "cpu")


def test_networks_trained_on_noise_are_the_recipes_dense_and_compact_ones(noise_runs: NoiseRuns) -> None:
    dense, compact = noise_runs[1].costs
    assert dense.dense == dense.compact == compact.dense and compact.compact.macs < dense.compact.macs
    assert (dense.method, compact.method, noise_runs[1].is_random) == ("dense", "scratch", True)


@pytest.mark.slow
def test_small_form_writes_its_rows_and_does_not_measure_them_again(
    recipe: str,
    noise_runs: NoiseRuns,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_probe, "QUESTIONS", {})
    arguments = ["--networks", recipe, "--backends", "ort-cpu", "--batches", "2", "--precisions", "fp32",
             "--threads", "1", "--work", str(noise_runs[0]), "--out", str(tmp_path)]  # fmt: skip
    assert gpu_latency.main(arguments) == 0
    output = capfd.readouterr()
    assert "training" not in output.err, "networks trained before are reused"
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
    assert "dense against compact" in output.out

    assert gpu_latency.main(arguments) == 0
    again = json.loads((tmp_path / "gpu_latency_cpu.json").read_text())
    assert again["rows"] == [row], "measured parts are not measured again"


def broken(*_: object) -> BenchResult:
    raise CompressError("the file cannot be made")


def test_part_that_fails_is_recorded_with_its_reason_and_not_tried_again(
    noise_runs: NoiseRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_latency, "compare_pair", broken)
    form = gpu_latency.Form("test", "cpu", (1,), ("fp32", "int8"), ("ort-cpu",), 10, 1)
    session = gpu_latency.ProfileSession(form, tmp_path, [], False)
    assert gpu_latency.measure_network(session, "tiny", noise_runs[1], ["ort-cpu", "torch"], float("inf"))
    kept = json.loads((tmp_path / "gpu_latency_cpu.json").read_text())
    failures = [(one["precision"], one["backend"], one["reason"]) for one in kept["failures"]]
    reason = "the file cannot be made"
    assert failures == [("fp32", "ort-cpu", reason), ("fp32", "torch", reason), ("int8", "ort-cpu", reason)]
    again = gpu_latency.ProfileSession(form, tmp_path, [], False)
    assert again.done({"network": "tiny", "precision": "fp32", "backend": "torch"})
    assert not again.done({"network": "tiny", "precision": "int8", "backend": "torch"})
    assert not gpu_latency.ProfileSession(form, tmp_path, [], True).record["failures"]


def test_no_part_starts_after_the_deadline(
    noise_runs: NoiseRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_latency, "compare_pair", broken)
    form = gpu_latency.Form("test", "cpu", (1,), ("fp32",), ("ort-cpu",), 10, 1)
    session = gpu_latency.ProfileSession(form, tmp_path, [], False)
    assert not gpu_latency.measure_network(session, "tiny", noise_runs[1], ["ort-cpu"], 0.0)
    assert not session.record["failures"]


def test_modules_are_measured_in_fp32_only() -> None:
    known = all_backends()
    precisions = gpu_latency.PRECISIONS
    assert latency_files.supported_precisions(known["torch"], precisions) == ["fp32"]
    assert latency_files.supported_precisions(known["ort-cpu"], precisions) == list(precisions)


def test_cpu_back_ends_get_small_batches_on_a_gpu_machine() -> None:
    form = gpu_latency.Form("GPU", "cuda", gpu_latency.BATCHES, ("fp32",), (), 30, 1)
    assert form.batches_on("ort-cpu") == [1, 8] and form.batches_on("ort-cuda") == [1, 8, 32, 128, 256]


def test_probe_answers_yes_for_a_back_end_with_equal_logits() -> None:
    outcome = gpu_probe.run_once("openvino")
    assert outcome["answer"] == "yes" and outcome["difference"] < 1e-3


def test_probe_answers_not_asked_if_a_requirement_is_missing() -> None:
    outcome = gpu_probe.run_once("ort-trt")
    assert outcome["answer"] == "not asked" and outcome["message"]


def test_answer_of_a_subprocess_holds_gpu_and_package_versions() -> None:
    outcome = gpu_probe.answer("ort-cuda")
    assert outcome["backend"] == "ort-cuda" and outcome["question"].endswith(("?", ")"))
    assert outcome["answer"] in ("yes", "no", "not asked") and outcome["packages"]
    if outcome["gpu"] is None:
        assert outcome["answer"] == "not asked"


def test_probe_that_times_out_answers_no() -> None:
    outcome = gpu_probe.answer("no-such-back-end", timeout_s=0.01)
    assert outcome["answer"] == "no" and "0.01 s" in outcome["message"]


def test_dense_run_without_compact_run_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert gpu_latency.main(["--dense", "runs/dense"]) == 2
    assert "--compact" in capfd.readouterr().err
