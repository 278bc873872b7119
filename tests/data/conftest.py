"""Small data sets on disk: an archive of arrays, and a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_arrays import SaveNpz
from PIL import Image


@pytest.fixture
def save_npz(tmp_path: Path) -> SaveNpz:
    """Write an archive and return its data-set name."""

    def save(**content: Any) -> str:
        path = tmp_path / "images.npz"
        np.savez(path, **content)
        return f"npz:{path}"

    return save


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes in train (7 images each) and val (3 each), of different sizes, JPEG and PNG."""
    rng = np.random.default_rng(1)
    for part, count in (("train", 7), ("val", 3)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (40 + 3 * i, 50 - 2 * i, 3), dtype=np.uint8)
                pixels[..., label] = 255
                Image.fromarray(pixels).save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")
    return tmp_path / "set"
