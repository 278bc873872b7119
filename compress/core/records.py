"""Records in JSON files that a version of this program wrote and a later one reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from compress.core.errors import CompressError, Exit
from compress.core.files import read_json
from compress.core.spec import Record

Stored = TypeVar("Stored", bound=Record)


def read_record(
    path: Path, form: type[Stored], *, what: str, hint: str, versions: Sequence[int], kind: str | None = None
) -> Stored:
    """Return the record in a file.

    Args:
        path: the file.
        form: the record's class.
        what: what it is to the user, such as ``benchmark result``.
        hint: what to do if it is missing, damaged or of another version.
        versions: values of ``schema_version`` that are read.
        kind: value of ``kind`` in the file; None: it has none.

    Raises:
        CompressError: (exit 3) ``missing-file``, ``damaged-file``, ``schema-version``.
    """
    value = read_json(path, what=what, hint=hint)
    version, found = value.get("schema_version"), value.get("kind")
    if version not in versions or (kind is not None and found != kind):
        is_one = "has" if kind is None else f"is {found!r} of"
        reads = "" if kind is None else f"{kind!r} of "
        raise CompressError(
            f"{str(path)!r} {is_one} schema version {version!r}; "
            f"this version of compress reads {reads}{' and '.join(map(str, versions))}",
            hint=hint,
            code="schema-version",
            exit=Exit.MISSING,
        )
    return validated(path, value, form, what=what, hint=hint)


def validated(path: Path, value: dict[str, Any], form: type[Stored], *, what: str, hint: str) -> Stored:
    """Return the record that the JSON object of a file is; see `read_record`.

    Raises:
        CompressError: (exit 3) ``damaged-file``, naming the first fault.
    """
    try:
        return form.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        raise CompressError(
            f"the {what} {str(path)!r} is damaged: {'.'.join(map(str, fault['loc']))}: {fault['msg']}",
            hint=hint,
            code="damaged-file",
            exit=Exit.MISSING,
        ) from error
