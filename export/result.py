"""Results of an export: the released file with its record, or several of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import overload

from compress.export.trust.manifest import FileRecord

_COLUMNS = ("file", "format", "precision", "size", "parity", "top-1")


@dataclass(frozen=True, repr=False)
class ExportResult:
    """A released file.

    Attributes:
        path: the file.
        manifest: the manifest of its folder.
        record: its record in the manifest, with the results of the parity check.
    """

    path: Path
    manifest: Path
    record: FileRecord

    @property
    def format(self) -> str:
        """Name of the format, such as ``onnx``."""
        return self.record.format

    @property
    def precision(self) -> str:
        """Number type of the layers, such as ``fp16``."""
        return self.record.precision

    @property
    def bytes(self) -> int:
        """Size of the file and its companions in bytes."""
        return sum(part.bytes for part in self.record.parts)

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.format} {self.precision}, {_size(self.bytes)}, "
            f"{_parity(self.record)}, top-1 {self.record.parity.top1_exported:.2%}"
        )

    def __repr__(self) -> str:
        return f"<ExportResult {self}>"

    def _repr_html_(self) -> str:
        return _html([self])


@dataclass(frozen=True, repr=False)
class ExportResults(Sequence[ExportResult]):
    """Released files of one call, in the order of the request; a read-only sequence."""

    results: tuple[ExportResult, ...]

    @overload
    def __getitem__(self, index: int) -> ExportResult: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ExportResult, ...]: ...
    def __getitem__(self, index: int | slice) -> ExportResult | tuple[ExportResult, ...]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[ExportResult]:
        return iter(self.results)

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))

    def __repr__(self) -> str:
        return f"<ExportResults: {', '.join(f'{r.format} {r.precision}' for r in self.results)}>"

    def _repr_html_(self) -> str:
        return _html(self.results)


def _parity(record: FileRecord) -> str:
    difference = record.parity.max_abs
    text = "not finite" if difference is None else f"largest difference {difference:.1e}"
    last = (record.details.get("chain") or [{}])[-1]
    return f"{text}, not run on this machine" if last.get("status") == "not run" else text


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _html(results: Sequence[ExportResult]) -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(result)) + "</tr>"
        for result in results
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(result: ExportResult) -> tuple[str, ...]:
    return (
        str(result.path),
        result.format,
        result.precision,
        _size(result.bytes),
        _parity(result.record),
        f"{result.record.parity.top1_exported:.2%}",
    )
