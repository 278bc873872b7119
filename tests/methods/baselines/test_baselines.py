"""The baselines rank a trained network, cut it and fine-tune it, within the same number of epochs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress import artifact
from compress.core.errors import CompressError
from compress.core.files import read_json
from compress.pipeline import TrainResult

Run = Callable[..., TrainResult]


def kept(folder: Path) -> list[int]:
    result = read_json(folder / "compact" / "plan.json", what="plan", hint="")["kept"][
        "features.conv5.weight"
    ]["0"]
    return [int(i) for i in result]


def test_l1_keeps_the_filters_with_the_largest_norms_of_the_trained_network(run: Run, tmp_path: Path) -> None:
    run("l1", 2, align="none")
    weight = artifact.load(tmp_path / "run-dense").state_dict()["features.conv5.weight"]
    order = np.argsort(-weight.abs().flatten(1).sum(1).numpy(), kind="stable")
    chosen = kept(tmp_path / "run")
    assert chosen == sorted(order[: len(chosen)].tolist())


def test_random_follows_the_seed(run: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run("random", 2, name=name, seed=seed, align="none")
    assert kept(tmp_path / "a") == kept(tmp_path / "b") != kept(tmp_path / "c")


def test_dense_training_counts_in_the_epochs_and_is_announced(run: Run) -> None:
    messages: list[str] = []
    result = run("l1", 4, said=messages)
    assert result.dense_epochs + result.epochs == 4
    assert "2 of 4 epochs" in messages[0]


def test_given_weights_leave_all_epochs_to_the_method(run: Run, tmp_path: Path) -> None:
    run("dense", 1, name="dense", target=None)
    result = run("l1", 1, weights=str(tmp_path / "dense" / "compact" / "weights.safetensors"))
    assert (result.dense_epochs, result.epochs) == (0, 1)


def test_finished_dense_network_is_used_again(run: Run, tmp_path: Path) -> None:
    run("l1", 2, name="a", dense_out=tmp_path / "shared")
    before = (tmp_path / "shared" / "metrics.jsonl").read_text()
    run("random", 2, name="b", dense_out=tmp_path / "shared")
    assert (tmp_path / "shared" / "metrics.jsonl").read_text() == before


def test_one_epoch_cannot_be_shared_with_a_dense_training(run: Run) -> None:
    with pytest.raises(CompressError, match="trains the dense network first"):
        run("l1", 1)
