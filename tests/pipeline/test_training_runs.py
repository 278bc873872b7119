"""From a request to a run folder: what a training writes, and what a failed one does not."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import Make
from torch import nn

from compress import data as images
from compress import load, models
from compress.artifact import build_dense, compact_info
from compress.artifact.weights import save_weights
from compress.core.errors import CompressError, Exit
from compress.graph import SlicePlan
from compress.methods import DCFF, METHODS
from compress.methods.dcff.method import DCFFMethod
from compress.pipeline import TrainResult, run_training, slice
from compress.slicing import slice_model
from compress.training import read_metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def inexact() -> Iterator[str]:
    """A method that trains as DCFF does but loses a little when it folds."""

    class InexactSettings(DCFF):
        pass

    @METHODS.register("inexact")
    class Inexact(DCFFMethod):
        config_type = InexactSettings

        def finish(self, model: nn.Module) -> nn.Module:
            compact = super().finish(model)
            with torch.no_grad():
                next(compact.parameters()).flatten()[0] += 0.05
            return compact

    yield Inexact.name
    del METHODS._entries["inexact"]


def logits(model: nn.Module) -> torch.Tensor:
    batch, _ = images.load("digits", (1, 8, 8)).test_arrays(16)
    with torch.no_grad():
        out: torch.Tensor = model.eval()(batch)
    return out


def compact_folders(path: Path) -> list[Path]:
    return [result for result in path.rglob("*") if "compact" in result.name]


def test_training_leaves_a_narrow_model_within_one_percent_of_the_target(trained: TrainResult) -> None:
    info = compact_info(trained.run)
    assert info.dense == trained.dense and info.compact == trained.compact
    assert trained.compact.macs == pytest.approx(0.3 * trained.dense.macs, rel=0.01)
    assert trained.top1 > 0.3
    assert sum(p.numel() for p in load(trained.run).parameters()) == trained.compact.params
    assert sum(p.numel() for p in build_dense(trained.run).parameters()) == trained.dense.params


def test_training_is_recorded(trained: TrainResult) -> None:
    run = Path(trained.run)
    record = json.loads((run / "run.json").read_text())
    assert (record["method"], record["target"], record["command"]) == (
        "dcff",
        "macs=0.3",
        ["compress", "train"],
    )
    assert record["settings"]["epochs"] == 3 and record["settings"]["options"]["slots"] == "stable"
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["test_top1"] == trained.top1 and rows[0]["dcff_temperature"] == 1.0
    assert rows[1]["dcff_temperature"] > 1000
    assert compact_info(run).extra == {"top1": trained.top1, "best_top1": trained.best_top1, "epochs": 3}


def test_exactness_checks_are_recorded(trained: TrainResult) -> None:
    verify = json.loads((Path(trained.run) / "compact" / "verify.json").read_text())
    assert verify == {"schema_version": 1, **trained.verify}
    assert verify["tolerance"] == 1e-5
    for gate in ("compact_vs_trained", "sliced_vs_masked_dense"):
        result = verify[gate]
        assert result["passed"] is True and result["samples"] == 64
        assert 0 <= result["max_rel"] <= result["tolerance"] == 1e-5
    assert verify["sliced_vs_masked_dense"]["max_abs"] >= 0  # rounding may agree to the last bit


def test_new_process_loads_the_model_and_computes_the_same(trained: TrainResult, tmp_path: Path) -> None:
    batch, _ = images.load("digits", (1, 8, 8)).test_arrays(16)
    program = (
        "import sys, torch, compress; from safetensors.torch import save_file, load_file;"
        "torch.set_num_threads(1); model = compress.load(sys.argv[1]);"
        "save_file({'y': model(load_file(sys.argv[2])['x']).detach()}, sys.argv[3])"
    )
    save_weights(tmp_path / "x.safetensors", {"x": batch})
    subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            str(trained.run),
            str(tmp_path / "x.safetensors"),
            str(tmp_path / "y.safetensors"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
    )
    with torch.no_grad():
        expected = load(trained.run)(load_file(tmp_path / "x.safetensors")["x"])
    assert torch.equal(load_file(tmp_path / "y.safetensors")["y"], expected)
    torch.testing.assert_close(expected, logits(load(trained.run)), rtol=1e-5, atol=1e-6)


def test_loaded_model_has_the_accuracy_of_the_log(trained: TrainResult) -> None:
    batch, labels = images.load("digits", (1, 8, 8)).test_arrays(None)
    with torch.no_grad():
        right = (load(trained.run)(batch).argmax(1) == labels).float().mean()
    assert right.item() == pytest.approx(trained.top1, abs=1.5 / len(labels))


def test_resuming_a_finished_training_gives_the_same_model(request_for: Make) -> None:
    first = run_training(request_for())
    expected = logits(load(first.run))
    again = run_training(request_for(resume=True))
    assert torch.equal(logits(load(again.run)), expected)
    assert (again.top1, again.epochs) == (first.top1, 2)
    assert [row["epoch"] for row in read_metrics(Path(again.run) / "metrics.jsonl")] == [1, 2]


def test_averaged_weights_are_saved(request_for: Make) -> None:
    plain = run_training(request_for())
    mean = run_training(request_for(out=Path(plain.run).with_name("mean"), settings={"ema": 0.9}))
    assert mean.verify["compact_vs_trained"]["passed"]
    assert not torch.equal(logits(load(mean.run)), logits(load(plain.run)))


@pytest.mark.parametrize("method", ["dense", "scratch"])
def test_baselines_leave_a_run_too(method: str, request_for: Make) -> None:
    result = run_training(request_for(method=method))
    assert (result.compact == result.dense) is (method == "dense")
    gate = result.verify["sliced_vs_masked_dense"]
    assert gate is None if method == "dense" else gate["passed"]
    assert sum(p.numel() for p in load(result.run).parameters()) == result.compact.params


def test_network_whose_forward_has_widths_written_into_it_is_trained_and_saved(
    request_for: Make, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "import torch.nn.functional as F\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, 2, 1)\n"
        "        self.bn, self.out = nn.BatchNorm2d(32), nn.Linear(32, 10)\n"
        "    def forward(self, x):\n"
        "        x = F.relu(self.a(x))\n"
        "        y = self.bn(self.b(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))\n"
        "        return self.out(F.relu(y).mean((2, 3)))\n"
        "def net():\n"
        "    return Net()\n"
    )
    model = f"{tmp_path / 'net.py'}:net"
    result = run_training(request_for(model=model, target=None, drop={"*": [0.5]}, settings={"ema": 0.9}))
    assert json.loads((Path(result.run) / "compact" / "plan.json").read_text())["rewrites"]
    assert (
        sum(p.numel() for p in load(result.run).parameters()) == result.compact.params < result.dense.params
    )


def test_fold_that_changes_the_network_fails_and_leaves_no_model(inexact: str, request_for: Make) -> None:
    request = request_for(method=inexact, settings={"epochs": 3})
    with pytest.raises(CompressError, match="differs from the trained one") as error:
        run_training(request)
    assert error.value.exit == Exit.PARITY == 5 and error.value.code == "not-exact"
    assert error.value.details["max_rel"] > 1e-5 and not error.value.details["passed"]
    assert request.out is not None and not compact_folders(Path(request.out))


def test_model_that_loads_as_another_is_removed(request_for: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(run: object) -> nn.Module:
        torch.manual_seed(5)
        return copy.deepcopy(load(run)).apply(  # type: ignore[arg-type]
            lambda m: m.reset_parameters() if isinstance(m, nn.Linear) else None
        )

    monkeypatch.setattr("compress.pipeline.verification.load", other)
    request = request_for()
    with pytest.raises(CompressError, match="saved model differs") as error:
        run_training(request)
    assert error.value.exit == Exit.PARITY
    assert request.out is not None and not compact_folders(Path(request.out))


def test_second_training_into_a_folder_is_refused_and_changes_nothing(request_for: Make) -> None:
    first = run_training(request_for())
    before = {path: path.read_bytes() for path in Path(first.run).rglob("*") if path.is_file()}
    with pytest.raises(CompressError, match="already contains a run"):
        run_training(request_for())
    assert {path: path.read_bytes() for path in Path(first.run).rglob("*") if path.is_file()} == before


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a dense network that has learned a little."""
    torch.manual_seed(0)
    model = models.build("vgg_small", 10, (1, 8, 8))
    x, y = images.load("digits", (1, 8, 8)).test_arrays(128)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    save_weights(tmp_path / "dense.safetensors", model.state_dict())
    return tmp_path / "dense.safetensors"


@pytest.mark.parametrize("criterion", ["l1", "random"])
def test_trained_weights_are_sliced_into_a_run(criterion: str, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    result = slice(
        "vgg_small",
        "params=0.5",
        data="digits",
        out=out,
        weights=str(weights),
        input_size=(1, 8, 8),
        criterion=criterion,
    )  # type: ignore[arg-type]
    dense = models.build("vgg_small", 10, (1, 8, 8), weights)
    plan = SlicePlan.from_json(json.loads((out / "compact" / "plan.json").read_text()))
    assert torch.equal(logits(load(out)), logits(slice_model(dense, plan)))
    assert result.compact.params == pytest.approx(0.5 * result.dense.params, rel=0.01)
    assert result.dense_top1 is not None and result.dense_top1 > 0.15
    verify = json.loads((out / "compact" / "verify.json").read_text())
    assert verify["sliced_vs_masked_dense"]["passed"] and verify["tolerance"] == 1e-5
    assert compact_info(out).method == f"slice-{criterion}" and compact_info(out).extra["top1"] == result.top1


def test_dcff_starts_from_given_weights(weights: Path, request_for: Make) -> None:
    start = run_training(
        request_for(weights=str(weights), settings={"lr": 1e-6, "momentum": 0, "weight_decay": 0})
    )
    cold = run_training(
        request_for(
            out=Path(start.run).with_name("cold"), settings={"lr": 1e-6, "momentum": 0, "weight_decay": 0}
        )
    )
    assert not torch.allclose(logits(load(start.run)), logits(load(cold.run)))


def test_method_can_be_registered_and_removed(inexact: str) -> None:
    assert METHODS[inexact].name == "inexact"
