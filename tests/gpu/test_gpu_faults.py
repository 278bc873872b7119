"""A training that does not fit into the GPU's memory says so, keeps what it has, and fits again with less."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import compress
from compress.core.errors import CompressError, Exit
from compress.pipeline import estimate, run_training

SETTINGS = {"epochs": 1, "batch_size": 1024, "lr": 0.05, "device": "cuda", "tensorboard": False}


def request(out: Path, batch_size: int) -> compress.TrainRequest:
    return compress.TrainRequest(
        method="dcff", model="resnet56", data="digits", target="macs=0.5", input_size=(3, 64, 64), out=out,
        settings={**SETTINGS, "batch_size": batch_size},
    )  # fmt: skip


def test_out_of_memory_is_named_with_the_batch_size(tmp_path: Path) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5e9 / total))
    try:
        with pytest.raises(CompressError, match="out of memory at batch size 1024") as caught:
            run_training(request(tmp_path / "run", 1024))
        assert (caught.value.code, caught.value.exit) == ("out-of-memory", Exit.MISSING)
        assert "0 of 1 epochs are saved" in caught.value.message
        with pytest.raises(CompressError, match="out of memory") as foreseen:
            estimate(request(tmp_path / "run", 1024), 2.0)
        assert foreseen.value.code == "out-of-memory"
        torch.cuda.empty_cache()
        assert run_training(request(tmp_path / "small", 32)).epochs == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_estimate_tells_the_gpus_memory(tmp_path: Path) -> None:
    (stage,) = estimate(request(tmp_path / "run", 64), 2.0).stages
    result = stage.measured
    assert result.device == torch.cuda.get_device_name()
    assert result.device_bytes is not None and result.device_total is not None
    assert 1e6 < result.device_bytes < result.device_total
