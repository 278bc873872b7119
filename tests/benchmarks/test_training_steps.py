"""The benchmarks of training steps at their smallest size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import step_overhead, train_memory
from benchmarks.steps import side, training


def test_steps_are_compared_in_pairs_and_the_teacher_is_listed_separately() -> None:
    result = step_overhead.measure_overhead("vgg_small", "kdfs", batch=2, pairs=2, pixels=8)
    assert result["step_ms"] > 0 and result["dense_ms"] > 0 and result["teacher_ms"] > 0
    for name in ("overhead", "same_against_same"):
        assert 0 < result[name]["low"] <= result[name]["ratio"] <= result[name]["high"]
        assert result[name]["pairs"] >= 2
    assert result["optimizer"] == "adamax"


def test_step_time_is_not_reduced_without_a_teacher() -> None:
    with training(device="cpu", optimizer="sgd") as (accelerator, config):
        steps = step_overhead.Steps(side(accelerator, config, "abp", "vgg_small", batch=2, pixels=8))
        assert (steps.run(2) > 0).all()
        assert steps.teacher_ns == [0, 0]


def test_sides_start_from_the_same_weights_and_the_same_batch() -> None:
    with training(device="cpu") as (accelerator, config):
        dense, abp = (side(accelerator, config, m, "vgg_small", batch=2, pixels=8) for m in ("dense", "abp"))
    assert torch.equal(dense.x, abp.x) and torch.equal(dense.y, abp.y)
    weights = dict(abp.model.named_parameters())
    same = [torch.equal(p, weights[n]) for n, p in dense.model.named_parameters() if n in weights]
    assert all(same) and len(same) >= 4


def test_memory_of_a_step_is_counted_by_method_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_memory.main(
        ["--models", "vgg_small", "--methods", "dense,scratch,dcff,kdfs", "--batch", "16", "--pixels", "8",
         "--out", str(tmp_path)]
    )  # fmt: skip
    rows = {row["method"]: row for row in json.loads((tmp_path / "train_memory.json").read_text())["runs"]}
    assert all(row["peak"] == row["standing"] + row["step"] for row in rows.values())
    assert rows["scratch"]["peak"] < rows["dense"]["peak"]
    assert rows["scratch"]["standing"] < rows["dcff"]["standing"]
    assert rows["kdfs"]["standing"] > rows["dense"]["standing"]
    activations = 16 * 64 * (32 + 32 + 64)  # float32 numbers before the last pooling, at the least
    assert rows["dense"]["step"] > activations
    assert "scratch" in capsys.readouterr().out


def test_tables_show_every_run() -> None:
    ratio = {"ratio": 1.1, "low": 1.0, "high": 1.2, "pairs": 2}
    row = {
        "model": "m", "method": "kdfs", "step_ms": 2.0, "dense_ms": 1.0, "teacher_ms": 0.5,
        "overhead": ratio, "same_against_same": ratio,
    }  # fmt: skip
    assert step_overhead.render_table({"batch": 2, "runs": [row, row]}).row_count == 2
