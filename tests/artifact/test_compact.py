"""Saving and loading compact models, in any process, without pickle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from run_records import record
from safetensors.torch import load_file
from torch import nn

from compress import models
from compress.artifact import RunFolder, build_dense, compact_info, load, save_compact
from compress.artifact.weights import load_state, read_weights, save_weights
from compress.core.errors import CompressError, Exit
from compress.core.spec import Costs
from compress.graph import trace
from compress.planning import make_plan
from compress.slicing import slice_model

ROOT = Path(__file__).resolve().parents[2]
COSTS = Costs(macs=50, params=5)


@pytest.fixture
def trained() -> nn.Module:
    """A network whose every tensor, the buffers too, differs from a fresh one's."""
    torch.manual_seed(7)
    model = models.build("resnet20")
    model.train()
    model(torch.randn(4, 3, 32, 32))
    return model.to(memory_format=torch.channels_last).eval()


@pytest.fixture
def saved(trained: nn.Module, tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.create(tmp_path / "run", record()) as run:
        save_compact(run, trained, run.record.model, None, {"max_abs": 0.0}, {"top1": 0.9}, compact=COSTS)
        yield run


def test_loaded_model_computes_the_same_as_the_saved_one(saved: RunFolder, trained: nn.Module) -> None:
    batch = torch.randn(2, 3, 32, 32)
    loaded = load(saved)
    assert not loaded.training
    assert torch.equal(loaded(batch), trained.to(memory_format=torch.contiguous_format)(batch))
    state = trained.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


@pytest.fixture
def narrow_run(trained: nn.Module, tmp_path: Path) -> Iterator[tuple[RunFolder, nn.Module]]:
    """A run with a cut network whose padded shortcuts need a rewritten forward, and that network."""
    plan = make_plan(trace(trained, (torch.randn(2, 3, 32, 32),)), keep=0.5)
    assert plan.rewrites
    narrow = slice_model(trained, plan).eval()
    with RunFolder.create(tmp_path / "narrow", record()) as run:
        save_compact(run, narrow, run.record.model, plan, {})
        yield run, narrow


def test_sliced_network_is_loaded_with_its_widths_and_computes_the_same(
    narrow_run: tuple[RunFolder, nn.Module],
) -> None:
    run, narrow = narrow_run
    loaded, batch = load(run), torch.randn(3, 3, 32, 32)
    assert sum(p.numel() for p in loaded.parameters()) == compact_info(run).compact.params
    assert compact_info(run).compact.params < 0.5 * sum(p.numel() for p in build_dense(run).parameters())
    assert torch.equal(loaded(batch), narrow.to(memory_format=torch.contiguous_format)(batch))


def test_plan_of_another_network_is_named(narrow_run: tuple[RunFolder, nn.Module]) -> None:
    run, _ = narrow_run
    path = run.compact / "plan.json"
    plan = json.loads(path.read_text())
    plan["kept"]["nothing.weight"] = {"0": [0]}
    path.write_text(json.dumps(plan))
    with pytest.raises(CompressError, match=r"plan\.json.*nothing\.weight"):
        load(run)


def test_another_process_loads_the_same_tensors(saved: RunFolder, trained: nn.Module, tmp_path: Path) -> None:
    program = (
        "import sys, torch; from safetensors.torch import save_file; from compress.artifact import load;"
        "model = load(sys.argv[1]); save_file(dict(model.state_dict()), sys.argv[2])"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(saved.path), str(tmp_path / "seen.safetensors")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
    )
    seen, state = load_file(tmp_path / "seen.safetensors"), trained.state_dict()
    assert seen.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in seen.items())


def test_a_copied_compact_folder_can_be_loaded(saved: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(saved.compact, tmp_path / "elsewhere")
    shutil.rmtree(saved.path)
    assert compact_info(tmp_path / "elsewhere").classes == tuple("0123456789")
    assert isinstance(load(tmp_path / "elsewhere"), nn.Module)


def test_no_file_of_the_compact_model_is_a_pickle(saved: RunFolder) -> None:
    names = sorted(path.name for path in saved.compact.iterdir())
    assert names == ["model.json", "plan.json", "verify.json", "weights.safetensors"]
    assert json.loads((saved.compact / "verify.json").read_text())["max_abs"] == 0.0


def test_info_has_description_and_costs(saved: RunFolder) -> None:
    info = compact_info(saved.path)
    assert (info.method, info.dense, info.compact) == ("dcff", Costs(macs=100, params=10), COSTS)
    assert info.preprocess == saved.record.data.preprocess and info.extra == {"top1": 0.9}


def test_dense_network_is_always_the_same_and_does_not_use_the_global_generator(saved: RunFolder) -> None:
    before = torch.get_rng_state()
    first, second = build_dense(saved).state_dict(), build_dense(saved.path).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["model.json", "plan.json", "weights.safetensors"])
def test_a_missing_file_is_named_with_a_hint(name: str, saved: RunFolder) -> None:
    (saved.compact / name).unlink()
    with pytest.raises(CompressError, match=r"there (is|are) no") as error:
        load(saved)
    assert name in error.value.message and error.value.hint and error.value.exit == Exit.MISSING


@pytest.mark.parametrize("name", ["model.json", "plan.json", "weights.safetensors"])
def test_truncated_file_is_named(name: str, saved: RunFolder) -> None:
    path = saved.compact / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CompressError, match="damaged") as error:
        load(saved)
    assert name in error.value.message and error.value.exit == Exit.MISSING


def test_weights_of_another_model_are_detected(saved: RunFolder) -> None:
    torch.manual_seed(8)
    save_weights(saved.compact / "weights.safetensors", models.build("resnet20").state_dict())
    with pytest.raises(CompressError, match="another SHA-256"):
        load(saved)


def test_another_schema_version_is_refused(saved: RunFolder) -> None:
    path = saved.compact / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 0}))
    with pytest.raises(CompressError, match="schema version 0"):
        load(saved)


def test_failed_save_leaves_the_previous_compact_model(saved: RunFolder, trained: nn.Module) -> None:
    before = {path.name: path.read_bytes() for path in saved.compact.iterdir()}
    with pytest.raises(TypeError):
        save_compact(saved, trained, saved.record.model, None, {"what": object()}, compact=COSTS)
    assert {path.name: path.read_bytes() for path in saved.compact.iterdir()} == before
    assert not [path for path in saved.path.iterdir() if path.name.endswith((".tmp", ".old"))]


def test_a_changed_model_file_is_detected(trained: nn.Module, tmp_path: Path) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "from torch import nn\n"
        "def tiny(num_classes=10, in_channels=3):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(4, num_classes))\n"
    )
    spec = models.model_spec(f"{source}:tiny", 10, (3, 32, 32))
    with RunFolder.create(tmp_path / "run", record(model=spec)) as run:
        model = models.build(spec.name, 10, (3, 32, 32))
        save_compact(run, model, spec, None, {}, compact=COSTS)
        assert torch.equal(load(run)[0].weight, model[0].weight)  # type: ignore[index]
        source.write_text(source.read_text() + "# changed\n")
        with pytest.raises(CompressError, match="has changed since the run"):
            load(run)


def test_shared_tensors_are_written_once_and_restored(tmp_path: Path) -> None:
    shared = nn.Linear(64, 64)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    path = tmp_path / "w.safetensors"
    save_weights(path, model.state_dict())
    assert sorted(load_file(path)) == ["0.bias", "0.weight"]
    state = read_weights(path)
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(state["2.weight"], shared.weight)


def test_tensors_that_do_not_fit_are_listed_and_nothing_is_loaded() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = {"0.weight": torch.zeros(2, 4), "0.bias": torch.zeros(2), "2.bias": torch.zeros(1)}
    with pytest.raises(CompressError) as error:
        load_state(model, state, source="the file")
    for words in ("missing 1.bias", "missing 1.weight", "unexpected 2.bias", "0.weight is [2, 4]"):
        assert words in error.value.message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_path_that_is_not_a_finished_run_is_described(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "begun", record()).close()
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"x")
    for name, message in {
        "begun": "has no compact model yet",
        "empty": "is not a run",
        "model.onnx": "is a file, not a run folder",
        "none": "there is no run folder",
    }.items():
        with pytest.raises(CompressError, match=message) as error:
            load(tmp_path / name)
        assert name in error.value.message and "compress train" in error.value.hint
        assert error.value.code == "missing-file"
