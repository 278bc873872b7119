"""Comparisons of methods: equal epochs, resuming, objects as arguments, and baselines that are not beaten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import compress
from compress import data
from compress.bench.comparison.pipeline import compare, named_methods
from compress.bench.comparison.record import ComparedRun, Comparison, matching_baselines, summarize
from compress.core.errors import CompressError

SETTINGS: dict[str, Any] = {
    "batch_size": 96,
    "lr": 0.05,
    "tensorboard": False,
    "device": "cpu",
    "progress": None,
}


class Tiny(nn.Module):
    """Two convolutions and a linear layer, for gray images of digits."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


def small(out: Path, methods: str = "l1,scratch", **more: Any) -> Comparison:
    return compare(
        "vgg_small",
        "digits",
        methods.split(","),
        target="macs=0.5",
        epochs=2,
        seeds=2,
        out=out,
        input_size=(3, 8, 8),
        latency=False,
        **SETTINGS,
        **more,
    )


def test_every_run_has_its_own_folder_and_the_same_epochs(tmp_path: Path) -> None:
    result = small(tmp_path)
    assert {(c.method, c.seed) for c in result.cells} == {
        ("l1", 0),
        ("l1", 1),
        ("scratch", 0),
        ("scratch", 1),
    }
    assert all(c.epochs + c.dense_epochs == 2 for c in result.cells)
    assert all((Path(c.run) / "compact" / "model.json").is_file() for c in result.cells)
    assert (tmp_path / "compare.png").stat().st_size > 1000
    assert json.loads((tmp_path / "compare.json").read_text()) == result.model_dump(mode="json")


def test_resumed_comparison_trains_nothing_twice(tmp_path: Path) -> None:
    first = small(tmp_path, "scratch")
    log = tmp_path / "scratch-s0" / "metrics.jsonl"
    before = log.read_bytes()
    both = small(tmp_path, "scratch,random")
    assert log.read_bytes() == before
    assert both.rows[0] == first.rows[0]


def test_dense_network_is_shared_and_counted_by_every_method_that_starts_from_it(tmp_path: Path) -> None:
    result = small(tmp_path, "l1,random")
    assert {c.dense_epochs for c in result.cells} == {1}
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("dense")) == [
        "dense1-s0",
        "dense1-s1",
    ]


def test_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    small(tmp_path, "scratch")
    with pytest.raises(CompressError, match="another comparison"):
        compare(
            "vgg_small",
            "digits",
            ["scratch"],
            target="macs=0.4",
            epochs=2,
            seeds=2,
            out=tmp_path,
            input_size=(3, 8, 8),
            latency=False,
            **SETTINGS,
        )


def test_unknown_and_dense_methods_are_refused_before_training(tmp_path: Path) -> None:
    for name in ("nothing", "dense"):
        with pytest.raises(CompressError):
            small(tmp_path, f"scratch,{name}")
    assert list(tmp_path.iterdir()) == []


def test_method_that_does_not_beat_a_baseline_is_reported() -> None:
    def runs(name: str, top1: float) -> list[ComparedRun]:
        return [
            ComparedRun(
                method=name,
                seed=s,
                run="",
                top1=top1 + 0.01 * s,
                macs=1,
                params=1,
                epochs=1,
                dense_epochs=0,
                seconds=0.0,
            )
            for s in (0, 1)
        ]

    rows = [
        summarize(n, runs(n, t), None)
        for n, t in (("dcff", 0.8), ("abp", 0.5), ("random", 0.6), ("scratch", 0.7))
    ]
    assert matching_baselines(rows) == {"abp": ("random", "scratch")}
    assert rows[0].top1_mean == pytest.approx(0.805)
    assert rows[0].top1_spread == pytest.approx(0.01 / 2**0.5)


def test_objects_give_a_result_that_prints_as_a_table() -> None:
    torch.manual_seed(0)
    digits = data.load("digits", input_size=(1, 8, 8))
    module = Tiny()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    result = compress.compare(
        module,
        digits,
        [compress.L1(), compress.Scratch()],
        target="macs=50%",
        epochs=1,
        seeds=1,
        latency=False,
        **SETTINGS,
    )
    assert [row.method for row in result.rows] == ["l1", "scratch"]
    assert all(row.macs < 0.51 * result.dense_macs for row in result.rows)
    assert {run.epochs for run in result.cells} == {1}
    assert Path(result.cells[0].run).is_dir()  # kept as long as the result
    assert "scratch" in str(result) and "top-1" in str(result)
    assert "<td>l1</td>" in result._repr_html_()
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    with pytest.raises(ValidationError):
        result.epochs = 2


@pytest.mark.slow
def test_latency_of_a_module_is_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    digits = data.load("digits", input_size=(1, 8, 8))
    arguments: dict[str, Any] = {"target": "macs=0.5", "epochs": 1, "seeds": 1, "out": tmp_path, **SETTINGS}
    result = compress.compare(Tiny(), digits, ["random"], **arguments)
    latency = result.rows[0].latency
    assert latency is not None and latency.dense_ms > 0 and latency.low <= latency.speedup <= latency.high
    assert compress.compare(Tiny(), digits, ["random"], **arguments) == result


def test_two_configurations_of_a_method_need_names() -> None:
    pair = [compress.DCFF(), compress.DCFF(t_end=100.0)]
    with pytest.raises(CompressError, match="'dcff' is given with two configurations"):
        named_methods(pair)
    assert list(named_methods(["l1", compress.DCFF(), "l1"])) == ["l1", "dcff"]


def test_a_baseline_under_another_name_is_still_a_baseline(tmp_path: Path) -> None:
    methods = {"a": compress.Scratch(), "b": compress.Random()}
    digits = data.load("digits", input_size=(1, 8, 8))
    result = compress.compare(
        Tiny(),
        digits,
        methods,
        target="macs=0.5",
        epochs=1,
        seeds=1,
        out=tmp_path,
        latency=False,
        **SETTINGS,
    )
    assert [row.method for row in result.rows] == ["a", "b"]
    assert result.beaten_by == {}
    assert (tmp_path / "a-s0" / "run.json").is_file()


def test_method_settings_next_to_a_configuration_object_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"given twice: t_end"):
        compare(
            "vgg_small",
            "digits",
            [compress.DCFF()],
            target="macs=0.5",
            epochs=1,
            out=tmp_path,
            method_settings={"dcff": {"t_end": 5.0}},
        )
