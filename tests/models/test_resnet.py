"""The padded shortcut with its published widths and with others."""

from __future__ import annotations

import pytest
import torch

from compress.core.errors import CompressError
from compress.models.resnet import ResNet, padded_shortcut


def test_equal_width_and_stride_one_is_the_identity() -> None:
    x = torch.randn(2, 16, 8, 8)
    assert padded_shortcut(x, 16, 1) is x


def test_published_widths_pad_a_quarter_on_each_side() -> None:
    x = torch.randn(2, 16, 8, 8)
    y = padded_shortcut(x, 32, 2)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y[:, :8].count_nonzero() == 0
    assert y[:, 24:].count_nonzero() == 0


@pytest.mark.parametrize(("narrow", "wide"), [(6, 25), (25, 32), (7, 8), (5, 5)])
def test_any_widening_keeps_all_input_channels_in_order(narrow: int, wide: int) -> None:
    x = torch.randn(1, narrow, 5, 5)
    y = padded_shortcut(x, wide, 2)
    assert y.shape == (1, wide, 3, 3)
    left = wide // 2 - narrow // 2
    assert torch.equal(y[:, left : left + narrow], x[:, :, ::2, ::2])
    assert y.count_nonzero() == x[:, :, ::2, ::2].count_nonzero()


def test_a_smaller_width_is_refused_with_both_widths() -> None:
    with pytest.raises(CompressError, match="cannot carry 32 channels to 16"):
        padded_shortcut(torch.randn(1, 32, 4, 4), 16, 1)


@pytest.mark.parametrize("depth", [7, 19, 55])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="6n"):
        ResNet(depth, 10, 3)
