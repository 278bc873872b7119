"""Read versioned records from JSON files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from compress.core.errors import CompressError, Exit
from compress.core.files import read_json
from compress.core.spec import Record

R = TypeVar("R", bound=Record)


def read_record(
    path: Path,
    record_class: type[R],
    *,
    what: str,
    hint: str,
    versions: Sequence[int],
    kind: str | None = None,
) -> R:
    """Return the record in a file.

    Args:
        path: the file.
        record_class: class of the record.
        what: name of the record in error messages, such as ``benchmark result``.
        hint: what to do if the file is missing, damaged or of another version.
        versions: values of ``schema_version`` that can be read.
        kind: required value of ``kind`` in the file; None: not checked.

    Raises:
        CompressError: (exit 3) ``missing-file``, ``damaged-file``, ``schema-version``.
    """
    value = read_json(path, what=what, hint=hint)
    version, file_kind = value.get("schema_version"), value.get("kind")
    if version not in versions or (kind is not None and file_kind != kind):
        is_one = "has" if kind is None else f"is {file_kind!r} of"
        reads = "" if kind is None else f"{kind!r} of "
        raise CompressError(
            f"{str(path)!r} {is_one} schema version {version!r}; "
            f"this version of compress reads {reads}{' and '.join(map(str, versions))}",
            hint=hint,
            code="schema-version",
            exit=Exit.MISSING,
        )
    return validate_record(path, value, record_class, what=what, hint=hint)


def validate_record(path: Path, value: dict[str, Any], record_class: type[R], *, what: str, hint: str) -> R:
    """Return the record in the JSON object `value`, read from `path`; see `read_record`.

    Raises:
        CompressError: (exit 3) ``damaged-file``, with the first invalid field.
    """
    try:
        return record_class.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        raise CompressError(
            f"the {what} {str(path)!r} is damaged: {'.'.join(map(str, fault['loc']))}: {fault['msg']}",
            hint=hint,
            code="damaged-file",
            exit=Exit.MISSING,
        ) from error
