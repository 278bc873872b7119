"""Training on a GPU: every precision, no waits, compiled steps, resuming, the exactness of what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import compress
from benchmarks.steps import side, training
from compress.artifact import RunFolder
from compress.methods.dcff.method import code_filters
from compress.pipeline import run_training
from compress.planning import make_plan
from compress.training import read_metrics
from compress.training.loss_monitor import LossMonitor
from compress.training.probe import NoProbe
from compress.training.steps import EAGER, Mode

SETTINGS = {"epochs": 2, "batch_size": 64, "lr": 0.05, "device": "cuda", "tensorboard": False}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_learns_and_folds_exactly(precision: str, tmp_path: Path) -> None:
    request = compress.TrainRequest(
        method="dcff", model="vgg_small", data="digits", target="macs=0.5", out=tmp_path / "run",
        settings={**SETTINGS, "epochs": 6, "batch_size": 32, "precision": precision},
    )  # fmt: skip
    result = run_training(request)
    assert result.top1 > 0.8
    assert result.verify["compact_vs_trained"]["passed"]
    assert next(compress.load(tmp_path / "run").parameters()).dtype == torch.float32


def test_coding_on_the_gpu_equals_the_cpu() -> None:
    filters = torch.randn(512, 684, generator=torch.Generator().manual_seed(0)) * 0.02
    for temperature in (1.0, 100.0, 1e4):
        p, importance = code_filters(filters, temperature)
        p_gpu, importance_gpu = code_filters(filters.cuda(), temperature)
        torch.testing.assert_close(p_gpu.cpu(), p, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(importance_gpu.cpu(), importance, rtol=1e-4, atol=1e-3)


def test_a_finished_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    request = compress.TrainRequest(
        method="dcff", model="resnet20", data="digits", target="macs=0.5", input_size=(3, 32, 32),
        out=tmp_path / "run", settings=SETTINGS,
    )  # fmt: skip
    run_training(request)
    before = compress.load(tmp_path / "run").state_dict()
    again = compress.TrainRequest(**{**vars(request), "resume": True})
    run_training(again)
    after = compress.load(tmp_path / "run").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 2


def test_the_sliced_network_equals_the_masked_one_on_the_gpu() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    model = compress.build("resnet56").cuda()
    images = torch.randn(8, 3, 32, 32, device="cuda")
    graph = compress.trace(model, images)
    plan = make_plan(graph, macs=0.5)
    report = compress.verify(model, plan, compress.slice_model(model, plan), images)
    assert report.max_rel <= 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("method", ["dense", "scratch", "dcff", "kdfs", "abp"])
def test_no_step_waits_for_the_gpu(method: str, precision: str) -> None:
    if method == "kdfs" and precision == "fp16":
        pytest.skip("torch has no fused Adamax: a scaled step of it asks the GPU whether it overflowed")
    with training(device="cuda", precision=precision, ema=0.9, clip_grad=1.0) as (accelerator, config):
        made = side(accelerator, config, method, "vgg_small", batch=32)
        made.begin(0)
        monitor = LossMonitor(accelerator.device, 1, every=2)
        for step in range(1, 9):
            torch.cuda.set_sync_debug_mode("error" if step > 2 else "default")
            try:
                loss, logits = made.stepper.step(made.x, made.y, 0.01, NoProbe())
                monitor.add(step, loss, logits, made.y)
                monitor.read(step, loss, 0.01)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        monitor.check(0.01)


def test_an_epoch_of_data_on_the_gpu_is_made_without_waiting() -> None:
    data = compress.data.load("digits", (3, 32, 32)).on_device(torch.device("cuda"))
    batches = data.train_batches(epoch=0, batch_size=64, seed=0)
    host = compress.data.load("digits", (3, 32, 32)).train_batches(epoch=0, batch_size=64, seed=0)
    source = iter(batches)
    made = [next(source)]  # the first one places the constants
    torch.cuda.set_sync_debug_mode("error")
    try:
        made += list(source)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (x, y), (u, v) in zip(made, host, strict=True):
        assert torch.equal(x.cpu(), u) and torch.equal(y.cpu(), v)


@pytest.mark.parametrize("mode", ["compiled", "cuda-graphs"])
@pytest.mark.parametrize("method", ["dense", "dcff", "kdfs", "abp"])
def test_compiled_steps_have_the_losses_of_eager_ones(method: str, mode: Mode) -> None:
    results = []
    for chosen in (EAGER, mode):
        torch.compiler.reset()
        with training(device="cuda", optimizer="sgd") as (accelerator, config):
            made = side(accelerator, config, method, "vgg_small", batch=32)
            made.stepper.forward.use(chosen)
            losses = []
            for epoch in range(2):
                made.begin(epoch)
                with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
                    losses += [float(made.step()) for _ in range(3)]
            results.append(losses)
    assert results[1] == pytest.approx(results[0], rel=1e-2)


@pytest.mark.parametrize("method", ["dcff", "kdfs", "abp"])
def test_auto_decides_by_measuring_and_records_it(method: str, tmp_path: Path) -> None:
    request = compress.TrainRequest(
        method=method, model="vgg_small", data="digits", target="macs=0.5", out=tmp_path / "run",
        settings={**SETTINGS, "epochs": 4}, profile=True,
    )  # fmt: skip
    result = run_training(request)
    decisions = RunFolder.open(tmp_path / "run").record.decisions
    assert decisions["data_on_device"]["on_device"]
    assert decisions["compile"]["step_ms"]["eager"] > 0
    assert result.profile is not None and (tmp_path / "run" / "profile" / "trace.json").is_file()
