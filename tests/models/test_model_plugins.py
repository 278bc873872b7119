"""A network of another package: added by entry point, used by name through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plugins import Plugin, make_plugin

from compress import models
from compress.core.errors import CompressError
from compress.core.registry import static_names
from compress.models.registry import MODELS

SOURCE = '''
from torch import nn
from compress.models import MODELS

def acme(num_classes=10, in_channels=3):
    """A tiny network."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )

@MODELS.register("acme_large", min_side=64)
def acme_large(num_classes=10):
    return acme(num_classes)

def wrong():
    return "a network"
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    entries = {
        "acme": "acme_nets.nets:acme",
        "acme_large": "acme_nets.nets",
        "acme_wrong": "acme_nets.nets:wrong",
        "acme_gone": "acme_nets.absent:net",
    }
    return make_plugin(tmp_path, "acme_nets", {"nets.py": SOURCE}, {"models": entries})


def test_a_network_of_another_package_is_listed_and_built(plugin: Plugin) -> None:
    with plugin.installed(MODELS):
        assert models.list_models("acme*") == ["acme", "acme_large", "acme_wrong"]
        assert "acme" in static_names(Path(str(models.__path__[0])), "models")
        model = models.build("acme", 7, (1, 8, 8))
        assert model(torch.randn(2, 1, 8, 8)).shape == (2, 7)
        assert models.build_from_spec(models.model_spec("acme", 7, (1, 8, 8)))
    assert models.list_models("acme*") == []


def test_errors_of_another_packages_network_are_clear(plugin: Plugin) -> None:
    with plugin.installed(MODELS):
        with pytest.raises(CompressError, match="at least 64x64 pixels, not 32x32"):
            models.build("acme_large")
        with pytest.raises(CompressError, match=r"returned a str, not a torch\.nn\.Module"):
            models.build("acme_wrong")
        with pytest.raises(CompressError, match=r"'acme_gone' could not be loaded: .*ModuleNotFoundError"):
            models.build("acme_gone")


def test_the_command_line_inspects_a_network_of_another_package(plugin: Plugin) -> None:
    done = plugin.run("inspect", "--model", "acme", "--input-size", "3,16,16")
    assert done.returncode == 0, done.stderr
    assert "acme: channel groups" in done.stdout


def test_models_are_listed_by_pattern() -> None:
    assert "resnet56" in models.list_models()
    assert models.list_models("vgg*") == ["vgg16", "vgg_small"]
    assert "torchvision/resnet50" in models.list_models("torchvision/resnet*")
    assert models.list_models("torchvision/vgg16") == ["torchvision/vgg16"]
    pytest.importorskip("timm")
    assert "timm/resnet10t" in models.list_models("timm/resnet10*")
