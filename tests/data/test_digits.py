"""scikit-learn's digits."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from compress import data
from compress.data.memory import Arrays


def test_split_sizes_and_preprocessing() -> None:
    info = data.load("digits").info
    assert (info.train_size, info.test_size, info.num_classes) == (1437, 360, 10)
    assert info.preprocess.input_size == (1, 32, 32)
    assert info.preprocess.resize == 32
    assert info.augmentation == "random crop (pad 2)"


def test_the_split_is_stratified_and_always_the_same() -> None:
    first, second = data.load("digits"), data.load("digits")
    assert first.info == second.info
    counts = torch.bincount(first.test_arrays()[1])
    assert counts.min() >= 34
    assert counts.max() <= 38


def test_three_channels_repeat_the_gray_image() -> None:
    gray, _ = data.load("digits").test_arrays(5)
    color, _ = data.load("digits", (3, 32, 32)).test_arrays(5)
    assert torch.equal(color, gray.expand(-1, 3, -1, -1))


def test_the_full_gray_scale_is_used() -> None:
    d = data.load("digits", (1, 8, 8))
    p = d.info.preprocess
    x, _ = d.test_arrays()
    levels = (x * p.std[0] + p.mean[0]) * 16
    torch.testing.assert_close(levels, levels.round(), atol=0.04, rtol=0)
    assert int(levels.min().round()) == 0
    assert int(levels.max().round()) == 16


def test_images_and_split_are_those_of_scikit_learn() -> None:
    bunch = load_digits()
    gray = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    x_train, x_test, y_train, y_test = train_test_split(
        gray, bunch.target, test_size=360, stratify=bunch.target, random_state=0
    )
    expected = Arrays(*(torch.from_numpy(a) for a in (x_train, y_train, x_test, y_test)))
    assert data.load("digits").info.fingerprint == expected.fingerprint()
