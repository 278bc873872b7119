"""scikit-learn's digits."""

from __future__ import annotations

import torch

from compress import data


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
    colour, _ = data.load("digits", (3, 32, 32)).test_arrays(5)
    assert torch.equal(colour, gray.expand(-1, 3, -1, -1))


def test_the_full_gray_scale_is_used() -> None:
    d = data.load("digits", (1, 8, 8))
    p = d.info.preprocess
    x, _ = d.test_arrays()
    levels = (x * p.std[0] + p.mean[0]) * 16
    torch.testing.assert_close(levels, levels.round(), atol=0.04, rtol=0)
    assert int(levels.min().round()) == 0
    assert int(levels.max().round()) == 16
