"""The benchmark of DCFF's overhead at its smallest size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import dcff_overhead
from benchmarks.common import provenance, write_result
from benchmarks.live_bytes import LiveBytes
from compress.graph import SlicePlan, trace
from compress.models import build
from compress.planning import make_plan

Small = tuple[SlicePlan, list[str]]


@pytest.fixture(scope="module")
def small() -> Small:
    graph = trace(build("vgg_small"), torch.rand(2, 3, 32, 32), free_pads=True)
    return make_plan(graph, keep=0.25, criterion="window"), graph.mixing_weights()


def test_plan_has_the_widths_of_the_recipe() -> None:
    plan, weights = dcff_overhead.recipe_plan()
    assert plan.narrow.macs == 72_349_240 and len(weights) == 13


def test_sides_differ_only_in_the_fusion(small: Small) -> None:
    dcff, plain = (dcff_overhead.build_network(kind, *small, model="vgg_small") for kind in ("dcff", "plain"))
    x = torch.rand(2, 3, 32, 32)
    assert dcff(x).shape == plain(x).shape
    assert sum(p.numel() for p in dcff.parameters()) > sum(p.numel() for p in plain.parameters())
    widths = [
        [m.weight.shape for m in side.modules() if isinstance(m, torch.nn.Conv2d)] for side in (dcff, plain)
    ]
    assert widths[0] == widths[1]


def test_step_is_compared_in_pairs_and_with_itself(small: Small) -> None:
    result = dcff_overhead.measure_step(*small, batch=2, pairs=2, model="vgg_small")
    for name in ("overhead", "same_against_same"):
        assert 0 < result[name]["low"] <= result[name]["ratio"] <= result[name]["high"]
        assert result[name]["pairs"] >= 2
    assert result["dcff_ms"] > 0 and result["plain_ms"] > 0


def test_coding_is_measured_for_each_layer_and_a_large_one(small: Small) -> None:
    lines = dcff_overhead.measure_coding(*small, repeats=1, model="vgg_small", large=(48, 100))
    assert [line["layer"] for line in lines[:2]] == ["features.conv1", "features.conv2"]
    assert (lines[-1]["filters"], lines[-1]["weights"]) == (48, 100)
    assert all(line["mb"] > 0 for line in lines)


@pytest.mark.parametrize("kind", ["dcff", "plain"])
def test_memory_of_a_side_is_measured_in_its_own_process(kind: str, tmp_path: Path) -> None:
    plan, weights = dcff_overhead.recipe_plan()
    (tmp_path / "plan.json").write_text(json.dumps({"plan": plan.to_json(), "weights": weights}))
    assert dcff_overhead._added_memory(kind, tmp_path / "plan.json", 2, 1) > plan.narrow.params * 4


def test_record_is_written_with_machine_versions_and_command(tmp_path: Path) -> None:
    record = provenance("benchmarks.dcff_overhead", ["--batch", "2"])
    path = write_result("found", record, tmp_path)
    read = json.loads(path.read_text())
    assert read["command"] == "python -m benchmarks.dcff_overhead --batch 2"
    assert read["machine"]["cores"] >= 1 and "torch" in read["versions"] and read["date"]


def test_tables_show_every_run() -> None:
    ratio = {"ratio": 1.1, "low": 1.0, "high": 1.2, "pairs": 2}
    line = {"layer": "conv", "filters": 4, "weights": 9, "ms": 1.0, "mb": 2.0}
    run = {
        "threads": 1, "coding": [line], "memory": {"dcff_mb": 2.0, "plain_mb": 1.0, "ratio": 2.0},
        "step": {"dcff_ms": 2.0, "plain_ms": 1.0, "overhead": ratio, "same_against_same": ratio},
    }  # fmt: skip
    steps, layers = dcff_overhead.render_tables({"batch": 2, "runs": [run, run]})
    assert steps.row_count == 2 and layers.row_count == 1 and len(layers.columns) == 5


def test_live_bytes_are_those_of_tensors_still_alive() -> None:
    given = torch.rand(1000)
    with LiveBytes([given]) as memory:
        a = given + 1
        b = a.view(10, 100) * 2
        del a
        c = b.sum()
    assert memory.largest == 4000 and memory.peak == 8000
    assert c.item() > 0
