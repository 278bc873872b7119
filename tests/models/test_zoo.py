"""Every built-in network: it trains, exports, takes other input sizes, and has the costs of its paper."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from compress import models
from compress.core.errors import CompressError

NAMES = models.list_models()

COUNTS = [
    ("vgg16", 10, (3, 32, 32), 313_201_664, 14_728_266),
    ("resnet56", 10, (3, 32, 32), 125_485_696, 853_018),
    ("resnet110", 10, (3, 32, 32), 252_887_680, 1_727_962),
    ("googlenet", 10, (3, 32, 32), 1_521_756_160, 6_166_250),
    ("densenet40", 10, (3, 32, 32), 282_917_328, 1_059_298),
    ("mobilenetv2", 1000, (3, 224, 224), 300_774_272, 3_504_872),
    ("torchvision/resnet50", 1000, (3, 224, 224), 4_089_184_256, 25_557_032),
]


@pytest.mark.parametrize(("name", "classes", "size", "macs", "params"), COUNTS, ids=lambda v: str(v))
def test_dense_macs_and_parameters_equal_those_of_the_papers(
    name: str, classes: int, size: tuple[int, int, int], macs: int, params: int
) -> None:
    with torch.device("meta"):
        model = models.build(name, classes, size).eval()
        image = torch.empty(1, *size)
    with FlopCounterMode(display=False) as counter:
        model(image)
    assert counter.get_total_flops() == 2 * macs
    assert sum(p.numel() for p in model.parameters()) == params


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = models.build(name, 7, (3, 32, 32))
    out = model(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, 7)
    out.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_exported_program_computes_the_same_as_the_module(builtin: str) -> None:
    torch.manual_seed(0)
    model = models.build(builtin, 10, (3, 32, 32)).eval()
    x = torch.randn(2, 3, 32, 32)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    y = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(y), model(y))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 32, 32), (3, 40, 48), (3, 17, 33)], ids=str)
def test_other_channels_and_image_sizes_run(name: str, size: tuple[int, int, int]) -> None:
    model = models.build(name, 5, size).eval()
    with torch.no_grad():
        assert model(torch.randn(1, *size)).shape == (1, 5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_torch_seed_gives_the_same_weights(name: str) -> None:
    torch.manual_seed(3)
    first = models.build(name).state_dict()
    torch.manual_seed(3)
    second = models.build(name).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_models_are_built_in_training_mode() -> None:
    assert models.build("resnet20").training


def test_mobilenet_strides_follow_the_image_size() -> None:
    small = models.build("mobilenetv2", 10, (3, 32, 32)).get_submodule("stem.conv")
    large = models.build("mobilenetv2", 10, (3, 224, 224)).get_submodule("stem.conv")
    assert small.stride == (1, 1)
    assert large.stride == (2, 2)


def test_too_small_an_image_is_refused_with_the_smallest_side() -> None:
    with pytest.raises(CompressError, match="at least 16x16 pixels, not 8x8"):
        models.build("vgg16", 10, (3, 8, 8))


@pytest.mark.parametrize(("name", "guess"), [("resnet65", "resnet56"), ("VGG-16", "vgg16")])
def test_an_unknown_name_gets_near_matches(name: str, guess: str) -> None:
    with pytest.raises(CompressError) as caught:
        models.build(name)
    assert caught.value.code == "unknown-model"
    assert guess in caught.value.hint
    assert name in caught.value.message


def test_a_torchvision_name_without_its_prefix_is_recognized() -> None:
    with pytest.raises(CompressError) as caught:
        models.model_spec("resnet50")
    assert "torchvision/resnet50" in caught.value.hint


@pytest.mark.parametrize("size", [(3, 32), (3, 0, 32)])
def test_an_invalid_input_size_is_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(CompressError) as caught:
        models.build("resnet20", 10, size)  # type: ignore[arg-type]
    assert caught.value.code == "input-size"


def test_spec_of_a_builtin_round_trips() -> None:
    record = models.model_spec("resnet20", 100, (1, 28, 28))
    again = type(record).model_validate_json(record.model_dump_json())
    assert again == record
    assert models.build_from_spec(again).get_submodule("linear").out_features == 100


def test_building_a_builtin_imports_neither_torchvision_nor_timm() -> None:
    code = (
        "import sys, compress.models as m; m.build('resnet20');"
        "sys.exit(int('torchvision' in sys.modules or 'timm' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
