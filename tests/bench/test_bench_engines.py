"""Engines a benchmark builds of a run: TensorRT-RTX builds them on every machine, a GPU runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("export.tensorrt_build")

from bench.files import Pair, prepared
from bench.runners import backends
from compress.artifact import RunFolder, compact_info
from compress.files import sha256_file


def engines(run: Path, batches: list[int]) -> Pair:
    with RunFolder.open(run, write=True) as folder:
        return prepared(folder, compact_info(folder), backends()["trt-rtx"], batches)


def test_engines_of_both_networks_are_built_once_for_the_same_batches(run: Path) -> None:
    first = engines(run, [1, 8])
    assert first.hashes == (sha256_file(first.dense), sha256_file(first.compact))
    assert first.dense.read_bytes() != first.compact.read_bytes()
    before = [path.stat().st_mtime_ns for path in (first.dense, first.compact)]
    assert engines(run, [8, 1]) == first
    assert [path.stat().st_mtime_ns for path in (first.dense, first.compact)] == before
    engines(run, [16])
    assert [path.stat().st_mtime_ns for path in (first.dense, first.compact)] != before


def test_an_engine_that_was_changed_is_built_again(run: Path) -> None:
    good = engines(run, [1])
    good.compact.write_bytes(b"tampered")
    again = engines(run, [1])
    assert again.hashes is not None
    assert again.compact.read_bytes() != b"tampered"
    assert again.hashes[1] == sha256_file(again.compact)
