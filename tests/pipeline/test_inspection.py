"""`compress inspect`: groups, their ties, protected layers, and the share that can be cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from compress.core.errors import CompressError
from compress.pipeline.inspection import Inspection, inspect, plot


@pytest.fixture(scope="module")
def resnet() -> Inspection:
    return inspect("resnet20")


def test_the_macs_of_the_groups_and_the_protected_layer_add_up(resnet: Inspection) -> None:
    assert resnet.dense.macs == 40_551_040
    assert sum(row.macs for row in resnet.groups) == resnet.dense.macs - 64 * 10


def test_a_residual_stream_is_one_group_tied_by_add(resnet: Inspection) -> None:
    stream = next(row for row in resnet.groups if row.name == "conv1")
    assert stream.width == 16
    assert "add" in stream.ties
    assert "layer3.2.conv2" in stream.layers


def test_cost_of_a_channel_is_that_of_the_layers_that_produce_or_read_it(resnet: Inspection) -> None:
    inner = next(row for row in resnet.groups if row.name == "layer1.0.conv1")
    assert inner.macs_per_channel == 2 * 16 * 9 * 32 * 32
    assert inner.ties == ()


def test_the_classifier_is_protected_as_the_output(resnet: Inspection) -> None:
    assert [(p.name, p.width, p.why) for p in resnet.protected] == [("linear", 10, "network output")]


def test_nearly_all_of_a_plain_network_can_be_cut(
    resnet: Inspection,
) -> None:
    assert 0.9 < resnet.cuttable < 1
    assert resnet.smallest.macs < 0.01 * resnet.dense.macs


def test_networks_from_outside_are_inspected_at_imagenet_size() -> None:
    assert inspect("torchvision/mobilenet_v2").dense.macs == 300_774_272


def test_the_plot_is_a_picture(resnet: Inspection, tmp_path: Path) -> None:
    plot(resnet, tmp_path / "groups.png")
    with Image.open(tmp_path / "groups.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 500
        assert len(set(picture.convert("L").getdata())) > 10


def test_a_plot_of_an_unknown_kind_is_refused_by_name(resnet: Inspection, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"groups\.xyz"):
        plot(resnet, tmp_path / "groups.xyz")
    assert not (tmp_path / "groups.xyz").exists()


def test_channels_that_a_group_norm_keeps_together_count_as_one() -> None:
    inspection = inspect("timm/resnet50_gn", input_size=(3, 32, 32))
    inner = next(row for row in inspection.groups if row.name == "layer1.0.conv1")
    assert (inner.width, inner.ties) == (32, ("group norm of 2",))
    stream = next(row for row in inspection.groups if "layer1.2.conv3" in row.layers)
    assert "group norm of 8" in stream.ties
