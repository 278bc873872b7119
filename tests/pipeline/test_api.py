"""The Python API takes objects and returns results with readable representations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_network import Tiny
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import compress
from compress import data as image_data
from compress.core.errors import CompressError
from compress.pipeline import TrainResult

FAST = {"epochs": 1, "batch_size": 32, "device": "cpu", "tensorboard": False, "progress": None}


def arrays(seed: int, count: int = 96) -> TensorDataset:
    """Images whose class shows in their brightness."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.rand(count, 1, 8, 8, generator=generator) + labels[:, None, None, None]
    return TensorDataset(images, labels)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Tiny(4)


@pytest.fixture(scope="module")
def result(module: nn.Module) -> TrainResult:
    pair = (arrays(0), arrays(1, 32))
    return compress.train(module, pair, compress.DCFF(t_end=100.0), target="macs=50%", **FAST)


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(arrays(1, 32).tensors[0])
    return logits


def test_module_datasets_and_config_give_a_compact_module(result: TrainResult, module: nn.Module) -> None:
    assert isinstance(result.model, Tiny) and result.method == "dcff"
    assert not result.model.training
    assert sum(p.numel() for p in result.model.parameters()) == result.compact.params
    assert result.compact.macs < 0.51 * result.dense.macs
    assert sum(p.numel() for p in module.parameters()) == result.dense.params


def test_module_that_is_passed_is_not_changed(module: nn.Module) -> None:
    before = copy.deepcopy(module.state_dict())
    compress.train(module, (arrays(0), arrays(1, 32)), compress.Dense(), **FAST)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_training_without_out_keeps_its_folder_as_long_as_the_result(
    module: nn.Module, tmp_path: Path
) -> None:
    actual = compress.train(module, (arrays(0), arrays(1, 32)), compress.Dense(), **FAST)
    folder = actual.run
    assert (folder / "run.json").is_file()
    kept = actual.save(tmp_path / "kept")
    with pytest.raises(CompressError, match="already exists"):
        actual.save(kept)
    del actual
    assert not folder.exists() and (kept / "compact" / "model.json").is_file()


def test_run_of_a_module_is_loaded_with_the_module(result: TrainResult, module: nn.Module) -> None:
    assert result.model is not None
    for dense in (module, lambda: Tiny(4)):
        assert torch.equal(outputs(compress.load(result.run, model=dense)), outputs(result.model))


def test_loading_a_run_of_a_user_module_asks_for_the_module(result: TrainResult) -> None:
    with pytest.raises(CompressError, match="trained from a module") as error:
        compress.load(result.run)
    assert error.value.code == "module-needed" and "model=" in error.value.hint


def test_result_is_readable(result: TrainResult) -> None:
    assert repr(result).startswith("TrainResult(dcff: top-1 ") and str(result.run) in repr(result)
    html = result._repr_html_()
    assert "<table>" in html and f"{result.compact.macs:,}" in html


def test_data_loaders_give_the_batch_size(module: nn.Module, tmp_path: Path) -> None:
    loaders = (DataLoader(arrays(0), batch_size=24, shuffle=True), DataLoader(arrays(1, 32), batch_size=8))
    settings = {key: value for key, value in FAST.items() if key != "batch_size"}
    compress.train(module, loaders, compress.Dense(), out=tmp_path / "run", **settings)
    assert '"batch_size": 24' in (tmp_path / "run" / "run.json").read_text()


def test_trained_module_is_ranked_and_sliced_without_a_dense_training(module: nn.Module) -> None:
    pair = (arrays(0), arrays(1, 32))
    actual = compress.train(module, pair, compress.L1(), target="params=0.59", **FAST)
    assert (actual.epochs, actual.dense_epochs) == (1, 0)
    settings = {**FAST, "epochs": 2}
    first = compress.train(module, pair, compress.L1(), target="params=0.59", pretrained=False, **settings)
    assert (first.epochs, first.dense_epochs) == (1, 1)


def test_teacher_is_a_module(module: nn.Module) -> None:
    pair = (arrays(0), arrays(1, 32))
    settings = {**FAST, "epochs": 2}
    actual = compress.train(
        module, pair, compress.KDFS(), target="macs=0.5", teacher=copy.deepcopy(module), **settings
    )
    assert actual.method == "kdfs" and actual.dense_epochs == 0


def test_data_set_object_is_used() -> None:
    digits = image_data.load("digits", (1, 8, 8))
    actual = compress.train("vgg_small", digits, compress.Dense(), **{**FAST, "batch_size": 256})
    assert actual.top1 >= 0 and actual.method == "dense"


def test_misspelled_setting_is_named_with_the_nearest() -> None:
    with pytest.raises(CompressError, match="no setting 'epoch'") as error:
        compress.train("vgg_small", "digits", compress.Dense(), epoch=3, progress=None)
    assert "epochs" in error.value.hint and "batch_size" in error.value.hint


def test_setting_of_the_method_is_named_as_such() -> None:
    with pytest.raises(CompressError, match="'t_end'") as error:
        compress.train("vgg_small", "digits", "dcff", target="macs=0.5", t_end=5.0, progress=None)
    assert "DCFF(t_end=...)" in error.value.hint


def test_other_data_is_refused() -> None:
    with pytest.raises(CompressError, match="data cannot be a list") as error:
        compress.train("vgg_small", [1, 2, 3], "dense", progress=None)  # type: ignore[arg-type]
    assert error.value.code == "data-format"


def test_slice_takes_a_module_and_inputs(module: nn.Module) -> None:
    actual = compress.slice(module, "macs=0.5", example_inputs=arrays(1, 8).tensors[0])
    assert isinstance(actual.model, Tiny) and actual.compact.macs < 0.51 * actual.dense.macs
    assert actual.max_rel <= 1e-5 and actual.top1 is None and actual.run is None
    assert repr(actual).startswith("SliceResult(") and "<table>" in actual._repr_html_()


def test_slice_takes_datasets_and_reports_accuracies(module: nn.Module, tmp_path: Path) -> None:
    actual = compress.slice(module, "macs=0.5", data=(arrays(0), arrays(1, 32)), out=tmp_path / "cut")
    assert actual.top1 is not None and "before" in repr(actual)
    loaded = compress.load(tmp_path / "cut", model=module)
    assert torch.equal(outputs(loaded), outputs(actual.model))


def test_slice_without_data_and_inputs_names_the_missing_arguments(module: nn.Module) -> None:
    with pytest.raises(CompressError, match="nothing to verify"):
        compress.slice(module, "macs=0.5")


def test_inspect_takes_a_module(module: nn.Module) -> None:
    actual = compress.inspect(module, torch.rand(2, 1, 8, 8))
    assert [group.name for group in actual.groups] == ["conv1", "conv2"]
    assert repr(actual).startswith("Inspection(Tiny: ") and "<table>" in actual._repr_html_()
    with pytest.raises(CompressError, match="input size of Tiny is unknown"):
        compress.inspect(module)


def test_methods_are_listed() -> None:
    assert {"abp", "dcff", "dense", "kdfs", "l1", "random", "scratch"} <= set(compress.list_methods())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"target": 0.5}, "bad-target", "0.5"),
        ({"method": compress.L1}, "unknown-method", "configuration object"),
        ({"method": 3}, "unknown-method", "3"),
        ({"drop": {"stem": "half"}, "target": None}, "bad-drop", "half"),
        ({"drop": "stem=0.5", "target": None}, "bad-drop", "stem=0.5"),
        ({"progress": "none"}, "usage", "progress"),
        ({"out": 7}, "usage", "out=7"),
        ({"recipe": 7}, "usage", "recipe=7"),
    ],
)
def test_argument_of_a_wrong_type_is_refused(
    module: nn.Module, changed: dict[str, object], code: str, message: str
) -> None:
    arguments = {"method": "l1", "target": "macs=0.5", **FAST, **changed}
    with pytest.raises(CompressError, match=message) as raised:
        compress.train(module, (arrays(0), arrays(1, 32)), **arguments)  # type: ignore[arg-type]
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Tiny, "not a torch.nn.Module"),
        (Tiny(4).to("meta"), "meta device"),
        (Tiny(4).requires_grad_(False), "requires a gradient"),
    ],
)
def test_model_that_cannot_be_trained_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(CompressError, match=message) as raised:
        compress.train(model, (arrays(0), arrays(1, 32)), "l1", target="macs=0.5", **FAST)
    assert raised.value.code == "model-object"


def test_frozen_module_is_sliced() -> None:
    images = arrays(1, 32).tensors[0]
    frozen = Tiny(4).requires_grad_(False)
    assert compress.slice(frozen, "macs=0.5", example_inputs=images).compact.macs > 0


def test_alignment_is_a_number_or_its_text(module: nn.Module) -> None:
    images = arrays(1, 32).tensors[0]
    found = [compress.slice(module, "macs=0.5", example_inputs=images, align=a) for a in (4, "4")]
    assert found[0].compact == found[1].compact


def test_num_classes_is_used_where_datasets_do_not_tell_it(module: nn.Module) -> None:
    pair = tuple([(image, int(label)) for image, label in arrays(seed, 16)] for seed in (0, 1))
    with pytest.raises(CompressError, match="number of classes is unknown"):
        compress.train(module, pair, compress.Dense(), **FAST)  # type: ignore[arg-type]
    found = compress.train(module, pair, compress.Dense(), num_classes=4, **FAST)  # type: ignore[arg-type]
    assert found.epochs == 1
