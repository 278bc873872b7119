"""Engines: TensorRT-RTX builds them on every machine, and nothing unknown is ever deserialized."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.artifact import RunFolder
from compress.bench.backends import RunConfig, all_backends
from compress.bench.backends.tensorrt import EngineRunner
from compress.bench.files import Pair, Prepared
from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file

rtx: Any = pytest.importorskip("tensorrt_rtx")


def engines(run: Path, batches: list[int]) -> Pair:
    pytest.importorskip("compress.export.formats.tensorrt_build")
    with RunFolder.open(run, write=True) as folder:
        return Prepared(folder).pair(all_backends()["trt-rtx"], batches)


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    path.write_bytes(b"not made here")
    return path


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


def test_an_engine_that_no_manifest_knows_is_refused(unknown: Path) -> None:
    pytest.importorskip("compress.export.trust.loading")
    with pytest.raises(CompressError, match="cannot be verified") as caught:
        EngineRunner(rtx, unknown, RunConfig(1, 1))
    assert "--trust" in caught.value.hint


def test_an_engine_with_another_hash_than_the_one_made_is_refused(unknown: Path) -> None:
    with pytest.raises(CompressError, match="changed while it was being opened") as caught:
        EngineRunner(rtx, unknown, RunConfig(1, 1, sha256="0" * 64))
    assert caught.value.exit is Exit.MISSING


def test_what_is_no_engine_is_refused_in_the_runtimes_own_words(
    unknown: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(unknown.read_bytes()).hexdigest()
    with pytest.raises(CompressError, match=r"tensorrt_rtx .* cannot be deserialized: \S") as caught:
        EngineRunner(rtx, unknown, RunConfig(1, 1, sha256=digest))
    assert (caught.value.code, caught.value.exit) == ("bad-engine", Exit.MISSING)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_no_engine_is_even_opened(unknown: Path) -> None:
    with pytest.raises(CompressError, match="needs an NVIDIA GPU"):
        all_backends()["trt-rtx"].load(unknown, RunConfig(1, 1))
