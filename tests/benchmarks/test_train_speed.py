"""The benchmark of training speed at its smallest size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import train_speed, train_variants
from benchmarks.matmul_peak import Peak, matmul_peak

RECIPE = """
model = "vgg_small"
data = "digits"
num_classes = 10
input_size = [1, 8, 8]
[train]
lr = 0.05
[drop]
"features.*" = [0.5]
"""
PEAK = Peak(1e9, 1e9, 8, "fp32", 3)
FORM = train_speed.Form.of(None, "cpu", None, 2)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return str(path)


def test_peak_is_that_of_square_products() -> None:
    result = matmul_peak("cpu", "fp32", 64, 0.01)
    assert 0 < result.macs_per_s <= result.best_macs_per_s and (result.size, result.precision) == (64, "fp32")
    assert result.count >= 3


@pytest.mark.parametrize("name", train_variants.VARIANTS)
def test_step_of_every_variant_trains_its_parameters(name: str, recipe: str) -> None:
    result = train_variants.variant(name, recipe, 4, device="cpu", precision="fp32")
    dense, narrow = train_variants.costs_of(recipe, None)
    before = [p.detach().clone() for p in result.steps.model.parameters() if p.requires_grad]
    assert len(result.steps.run(2)) == 2 and sum(p.numel() for p in before) == result.params
    after = [p for p in result.steps.model.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    wide = name in ("dense", "kdfs", "abp")
    assert result.macs == (dense.macs if wide else narrow.macs)
    assert result.step_macs == 3 * result.macs + (dense.macs if name == "kdfs" else 0)


def test_compact_weights_of_scratch_and_dcff_have_the_same_shapes(recipe: str) -> None:
    shapes = [
        [
            m.weight.shape
            for m in train_variants.variant(
                n, recipe, 2, device="cpu", precision="fp32"
            ).steps.model.modules()
            if isinstance(m, torch.nn.Conv2d)
        ]
        for n in ("scratch", "dcff")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_every_variant_is_paired_with_the_dense_network(recipe: str) -> None:
    network = train_speed.Network(recipe, 4, 4)
    result = train_speed.measure_variants("small", network, ["scratch"], FORM, PEAK)
    rows = {row["variant"]: row for row in result["variants"]}
    assert list(rows) == ["dense", "scratch"] and result["input"] == [4, 1, 8, 8]
    for row in rows.values():
        assert row["speedup"]["low"] <= row["speedup"]["ratio"] <= row["speedup"]["high"]
        assert row["images_per_s"] == pytest.approx(4e3 / row["ms_per_step"])
        share = row["images_per_s"] * row["step_macs"] / PEAK.macs_per_s
        assert row["share_of_peak"] == pytest.approx(share) and row["pairs"] >= 2
    assert rows["dense"]["mac_reduction"] == 1 < rows["scratch"]["mac_reduction"]


def test_small_form_is_the_default_of_a_cpu_and_bf16_that_of_a_gpu() -> None:
    assert (FORM.small, FORM.precision) == (True, "fp32")
    whole = train_speed.Form.of(None, "cuda", None, None)
    assert (whole.small, whole.precision, whole.pairs) == (False, "bf16", 30)


@pytest.mark.slow
def test_command_line_writes_the_small_form_as_such(
    tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(train_speed.NETWORKS, "small", train_speed.Network(recipe, 8, 2))
    words = ["--networks", "small", "--variants", "dcff", "--pairs", "2", "--threads", "1", "--device", "cpu"]
    train_speed.main([*words, "--out", str(tmp_path)])
    record = json.loads((tmp_path / "train_speed_cpu.json").read_text())
    assert record["form"] == "small form, CPU" and record["peak"]["macs_per_s"] > 0
    assert [row["variant"] for row in record["networks"][0]["variants"]] == ["dense", "dcff"]
    assert record["machine"]["cores"] >= 1 and "dcff" in capsys.readouterr().out
