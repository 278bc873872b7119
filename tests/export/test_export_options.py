"""Parsing of export options."""

from __future__ import annotations

import pytest

from compress.core.errors import CompressError, Exit
from compress.export.options import BatchRange, Options, check_options, parse_batch, parse_targets


def test_batches_are_read_as_a_user_writes_them() -> None:
    results = [parse_batch(text) for text in ("dynamic", "8", "1:4:16")]
    assert results == ["dynamic", 8, BatchRange(1, 4, 16)]


@pytest.mark.parametrize("text", ["8:4:2", "0:1:2", "1:2", "many", "0", "1:x:3"])
def test_a_batch_that_is_none_is_refused_naming_it(text: str) -> None:
    with pytest.raises(CompressError, match=text) as caught:
        parse_batch(text)
    assert (caught.value.code, caught.value.exit) == ("bad-batch", Exit.USAGE)


def test_targets_are_read_as_a_user_writes_them() -> None:
    assert parse_targets("86, 89,sm_120,8.6") == (86, 89, 120)
    assert parse_targets(None) == ()
    with pytest.raises(CompressError, match="ada"):
        parse_targets("86,ada")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (Options(precision="int4"), "unknown-precision"),  # type: ignore[arg-type]
        (Options(precision="int8", calib_images=0), "no-calibration"),
        (Options(quantize_ends=True), "option"),
        (Options(workspace_mb=0), "workspace"),
        (Options(precision="bf16", opset=20), "opset"),
    ],
    ids=["precision", "calibration", "ends", "workspace", "opset"],
)
def test_an_impossible_option_is_refused_before_any_work(options: Options, code: str) -> None:
    with pytest.raises(CompressError) as caught:
        check_options(options)
    assert (caught.value.code, caught.value.exit) == (code, Exit.USAGE)
    assert caught.value.hint
