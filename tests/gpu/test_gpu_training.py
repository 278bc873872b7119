"""DCFF on a GPU: training in every precision, coding, resuming, and the exactness of what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import compress
from compress.methods.dcff import coding
from compress.training import read_metrics

SETTINGS = {"epochs": 2, "batch_size": 64, "lr": 0.05, "device": "cuda", "tensorboard": False}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_learns_and_folds_exactly(precision: str, tmp_path: Path) -> None:
    request = compress.TrainRequest(
        method="dcff", model="vgg_small", data="digits", target="macs=0.5", out=tmp_path / "run",
        settings={**SETTINGS, "epochs": 6, "batch_size": 32, "precision": precision},
    )  # fmt: skip
    result = compress.train(request)
    assert result.top1 > 0.8
    assert result.verify["compact_vs_trained"]["passed"]
    assert next(compress.load(tmp_path / "run").parameters()).dtype == torch.float32


def test_coding_on_the_gpu_equals_the_cpu() -> None:
    filters = torch.randn(512, 684, generator=torch.Generator().manual_seed(0)) * 0.02
    for temperature in (1.0, 100.0, 1e4):
        p, importance = coding(filters, temperature)
        p_gpu, importance_gpu = coding(filters.cuda(), temperature)
        torch.testing.assert_close(p_gpu.cpu(), p, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(importance_gpu.cpu(), importance, rtol=1e-4, atol=1e-3)


def test_a_finished_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    request = compress.TrainRequest(
        method="dcff", model="resnet20", data="digits", target="macs=0.5", input_size=(3, 32, 32),
        out=tmp_path / "run", settings=SETTINGS,
    )  # fmt: skip
    compress.train(request)
    before = compress.load(tmp_path / "run").state_dict()
    again = compress.TrainRequest(**{**vars(request), "resume": True})
    compress.train(again)
    after = compress.load(tmp_path / "run").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 2


def test_the_sliced_network_equals_the_masked_one_on_the_gpu() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    model = compress.build("resnet56").cuda()
    images = torch.randn(8, 3, 32, 32, device="cuda")
    graph = compress.trace(model, images)
    plan = graph.plan(macs=0.5)
    report = compress.verify(model, plan, compress.slice_model(model, plan), images)
    assert report.max_rel <= 1e-4
