"""A comparison gives every method the same epochs, can be resumed, and says who beats whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.bench.comparison.pipeline import Cell, Comparison, _beaten, _row, compare
from compress.core.errors import CompressError

SETTINGS = {"batch_size": 96, "lr": 0.05, "tensorboard": False, "device": "cpu"}


def small(out: Path, methods: str = "l1,scratch", **more: Any) -> Comparison:
    return compare(
        methods.split(","),
        "vgg_small",
        "digits",
        "macs=0.5",
        epochs=2,
        seeds=2,
        out=out,
        settings=SETTINGS,
        input_size=(3, 8, 8),
        latency=False,
        **more,
    )


def test_every_cell_has_its_run_folder_and_the_same_epochs(tmp_path: Path) -> None:
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


def test_stopped_comparison_goes_on_and_trains_nothing_twice(tmp_path: Path) -> None:
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
            ["scratch"],
            "vgg_small",
            "digits",
            "macs=0.4",
            epochs=2,
            seeds=2,
            out=tmp_path,
            settings=SETTINGS,
            input_size=(3, 8, 8),
            latency=False,
        )


def test_unknown_and_dense_methods_are_refused_before_training(tmp_path: Path) -> None:
    for name in ("nothing", "dense"):
        with pytest.raises(CompressError):
            small(tmp_path, f"scratch,{name}")
    assert list(tmp_path.iterdir()) == []


def test_method_that_does_not_beat_a_yardstick_is_named() -> None:
    def cells(name: str, top1: float) -> list[Cell]:
        return [
            Cell(
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
        _row(n, cells(n, t), None)
        for n, t in (("dcff", 0.8), ("abp", 0.5), ("random", 0.6), ("scratch", 0.7))
    ]
    assert _beaten(rows) == {"abp": ("random", "scratch")}
    assert rows[0].top1_mean == pytest.approx(0.805)
    assert rows[0].top1_spread == pytest.approx(0.01 / 2**0.5)
