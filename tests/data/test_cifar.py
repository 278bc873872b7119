"""CIFAR through torchvision: its real file format, and what happens without a network."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from compress import data
from compress.core.errors import CompressError, Exit
from compress.data.cifar import download_root

DATASETS = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}


def write(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Write a few images in the archive's own format, declare them whole, and return the test pixels."""
    kind = DATASETS[name]
    base = root / kind.base_folder
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    label_key, names_key = (
        ("labels", "label_names") if name == "cifar10" else ("fine_labels", "fine_label_names")
    )
    sums: dict[str, str] = {}

    def dump(file: str, content: object) -> None:
        raw = pickle.dumps(content)
        (base / file).write_bytes(raw)
        sums[file] = hashlib.md5(raw).hexdigest()

    last = np.empty(0)
    for file, _ in [*kind.train_list, *kind.test_list]:
        last = rng.integers(0, 256, (6, 3072), dtype=np.uint8)
        dump(file, {"data": last, label_key: [0, 1, 2, 3, 4, 5]})
    dump(kind.meta["filename"], {names_key: [f"class {i}" for i in range(10)]})
    for lists in ("train_list", "test_list"):
        monkeypatch.setattr(kind, lists, [[f, sums[f]] for f, _ in getattr(kind, lists)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})
    return torch.from_numpy(last).view(-1, 3, 32, 32)


@pytest.mark.parametrize("name", DATASETS)
def test_the_archive_format_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write(tmp_path, name, monkeypatch)
    d = data.load(name, root=tmp_path)
    x, y = d.test_arrays()
    p = d.info.preprocess
    mean, std = (torch.tensor(v)[:, None, None] for v in (p.mean, p.std))
    torch.testing.assert_close(x, (raw / 255 - mean) / std)
    assert y.tolist() == [0, 1, 2, 3, 4, 5]
    assert d.info.classes[3] == "class 3"
    assert d.info.augmentation == "random crop (pad 4), horizontal flip"


@pytest.mark.parametrize("name", DATASETS)
def test_without_a_network_the_error_suggests_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DATASETS[name], "url", "http://127.0.0.1:9/none.tar.gz")
    with pytest.raises(CompressError, match=str(tmp_path)) as caught:
        data.load(name, root=tmp_path)
    assert caught.value.exit is Exit.MISSING
    assert "npz:FILE" in caught.value.hint


def test_downloads_go_to_the_folder_in_the_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_DATA", str(tmp_path / "there"))
    assert download_root(None) == tmp_path / "there"
    assert download_root(tmp_path) == tmp_path
    monkeypatch.delenv("COMPRESS_DATA")
    assert download_root(None) == Path.home() / ".cache" / "compress"
