"""Atomic files and folders."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest

from compress.core.errors import CompressError
from compress.core.files import (
    atomic_path,
    current_folder,
    read_json,
    sha256_file,
    staged_directory,
    write_bytes,
    write_json,
)


class Stop(BaseException):
    """Something that ends a program in the middle of a write."""


def test_written_bytes_are_read_back(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "a", b"one")
    write_bytes(tmp_path / "new" / "a", b"two")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "new").iterdir()] == [("a", b"two")]


def test_an_interrupted_write_leaves_the_old_file_only(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(Stop), atomic_path(tmp_path / "a") as temporary:
        temporary.write_bytes(b"half")
        raise Stop
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_a_value_that_json_cannot_represent_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_json_errors_name_the_file_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{]")
    for name, words in (("none.json", "there is no plan"), ("bad.json", "the plan .* is damaged")):
        with pytest.raises(CompressError, match=words) as error:
            read_json(tmp_path / name, what="plan", hint="make one")
        assert name in error.value.message and error.value.hint == "make one"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in ("1", "2"):
        with staged_directory(tmp_path / "d") as folder:
            (folder / content).write_text(content)
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["2"]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "d") as folder:
        (folder / "old").touch()
    with pytest.raises(Stop), staged_directory(tmp_path / "d") as folder:
        (folder / "new").touch()
        raise Stop
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["d", "d/old"]


def test_a_process_that_dies_between_the_two_renames_leaves_the_old_folder_readable(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "d") as folder:
        (folder / "old").touch()
    (tmp_path / "d").rename(tmp_path / ".d.old")
    assert (current_folder(tmp_path / "d") / "old").exists()
    with staged_directory(tmp_path / "d") as folder:
        (folder / "new").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CompressError, match=r"cannot write .*file/a"):
        write_bytes(tmp_path / "file" / "a", b"x")


def test_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
