"""`compress.core.records`: versioned records in JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import CompressError, Exit
from compress.core.records import read_record
from compress.core.spec import Record


class Count(Record):
    """A record with one number."""

    schema_version: int
    kind: str = "count"
    number: int


def read(path: Path, kind: str | None = "count") -> Count:
    return read_record(path, Count, what="count file", hint="count again", versions=(1, 2), kind=kind)


def write(folder: Path, **content: Any) -> Path:
    path = folder / "count.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_a_record_of_each_readable_version_is_read(version: int, tmp_path: Path) -> None:
    assert read(write(tmp_path, schema_version=version, kind="count", number=3)).number == 3


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ({"schema_version": 3, "kind": "count", "number": 3}, "schema-version", "schema version 3"),
        ({"schema_version": 1, "kind": "sum", "number": 3}, "schema-version", "is 'sum' of schema version 1"),
        ({"schema_version": 1, "kind": "count", "number": "many"}, "damaged-file", "damaged: number"),
        ({"schema_version": 1, "kind": "count"}, "damaged-file", "damaged: number: Field required"),
        ({"schema_version": 1, "kind": "count", "number": 3, "x": 1}, "damaged-file", "damaged: x"),
    ],
)
def test_a_file_that_is_not_such_a_record_is_refused(
    content: dict[str, Any], code: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CompressError) as raised:
        read(write(tmp_path, **content))
    assert (raised.value.code, raised.value.exit) == (code, Exit.MISSING)
    assert message in raised.value.message and "count.json" in raised.value.message
    assert raised.value.hint == "count again"


def test_a_missing_file_is_named_with_the_hint(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="there is no count file") as raised:
        read(tmp_path / "none.json")
    assert (raised.value.code, raised.value.hint) == ("missing-file", "count again")
