"""A data set of another package: added by entry point, used by name through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugins import Plugin, make_plugin

from compress import data
from compress.core.errors import CompressError
from compress.core.registry import static_names
from compress.data.registry import DATASETS

SOURCE = '''
import torch
from torch.utils.data import TensorDataset
from compress.data import DATASETS

def _part(n):
    labels = torch.arange(n) % 2
    images = torch.randn(n, 1, 16, 16, generator=torch.Generator().manual_seed(n)) + labels.view(-1, 1, 1, 1)
    return TensorDataset(images, labels)

def stripes(request):
    """A pair of torch datasets."""
    return _part(64), _part(32)

@DATASETS.register("sized", argument="N")
def sized(request):
    return _part(int(request.argument)), _part(8)

def nothing(request):
    return 3
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    entries = {
        "stripes": "acme_data.sets:stripes",
        "sized": "acme_data.sets",
        "nothing": "acme_data.sets:nothing",
        "gone": "acme_data.sets:no_such_loader",
    }
    return make_plugin(tmp_path, "acme_data", {"sets.py": SOURCE}, {"datasets": entries})


def test_a_data_set_of_another_package_is_listed_and_loaded(plugin: Plugin) -> None:
    with plugin.installed(DATASETS):
        assert {"stripes", "sized:N"} <= set(data.list_datasets())
        assert "stripes" in static_names(Path(str(data.__path__[0])), "datasets")
        loaded = data.load("stripes")
        assert loaded.info.name == "stripes" and loaded.info.train_size == 64
        assert data.load("sized:12").info.train_size == 12
    assert "stripes" not in data.list_datasets()


def test_errors_of_another_packages_data_set_are_clear(plugin: Plugin) -> None:
    with plugin.installed(DATASETS):
        with pytest.raises(CompressError, match="the loader of 'nothing' returned a int without info"):
            data.load("nothing")
        with pytest.raises(CompressError, match=r"could not be loaded: acme_data\.sets:no_such_loader"):
            data.load("gone")
        with pytest.raises(CompressError, match="the images of 'stripes' are 1,16,16, not 3,32,32"):
            data.load("stripes", (3, 32, 32))


def test_the_command_line_trains_on_a_data_set_of_another_package(plugin: Plugin, tmp_path: Path) -> None:
    done = plugin.run(
        *("train", "--method", "dense", "--model", "vgg_small", "--data", "stripes"),
        *("--epochs", 1, "--batch-size", 32, "--out", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert '"name": "stripes"' in (tmp_path / "run" / "run.json").read_text()
