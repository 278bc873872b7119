"""The names at the top level of the package."""

from __future__ import annotations

import pytest

import compress


@pytest.mark.parametrize("name", compress.__all__)
def test_every_public_name_can_be_loaded(name: str) -> None:
    assert getattr(compress, name) is not None


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("methods", "kdfs"),
        ("models", "resnet56"),
        ("datasets", "digits"),
        ("criteria", "l1"),
        ("formats", "onnx"),
        ("backends", "ort-cpu"),
        ("recipes", "short-l1-vgg16"),
    ],
)
def test_every_kind_of_thing_is_listed_at_the_top_level(kind: str, member: str) -> None:
    names = getattr(compress, f"list_{kind}")()
    assert member in names
    assert list(names) == sorted(names)
