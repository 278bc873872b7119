"""Artifacts of a run: the dense network, the compact network made from it, and the exported files."""

from __future__ import annotations

from collections.abc import Sequence

from compress.artifact import CompactInfo, RunFolder
from compress.bench.report.facts import ExportFacts, LineageRow
from compress.bench.report.measured import (
    NamedResult,
    find_measurements,
    is_file_by_name,
    is_network,
    is_same_content,
)

DENSE_METHOD = "dense"
"""The method that trains the dense network itself."""


def lineage_rows(
    run: RunFolder, info: CompactInfo | None, exports: Sequence[ExportFacts], results: Sequence[NamedResult]
) -> tuple[LineageRow, ...]:
    """Return the dense network, the compact one, and every exported file."""
    uncut = run.record.method == DENSE_METHOD
    rows = [] if uncut and info is not None else [_dense_row(run, info, results)]
    if info is not None:
        rows.append(_compact_row(run, info, results, uncut))
    rows += [_export_row(run, info, export, results) for export in exports]
    return tuple(rows)


def _dense_row(run: RunFolder, info: CompactInfo | None, results: Sequence[NamedResult]) -> LineageRow:
    top1 = None if info is None else info.extra.get("dense_top1")
    return LineageRow(
        run=run.path.name,
        stage="dense",
        label="dense",
        made="before the cut" if top1 is not None else "random weights, baseline for speed only",
        precision="fp32",
        top1=top1,
        top1_on="" if top1 is None else "test set",
        macs=run.record.dense.macs,
        params=run.record.dense.params,
        bytes=_dense_bytes(results),
        measured=find_measurements(results, is_network("dense")),
    )


def _dense_bytes(results: Sequence[NamedResult]) -> int | None:
    is_dense = is_network("dense")
    sizes = (
        comparison.baseline.bytes
        for named in results
        for comparison in named.result.comparisons
        if is_dense(comparison.baseline, named)
    )
    return next((size for size in sizes if size is not None), None)


def _compact_row(
    run: RunFolder, info: CompactInfo, results: Sequence[NamedResult], uncut: bool
) -> LineageRow:
    top1 = info.extra.get("top1")
    weights = run.compact / "weights.safetensors"
    return LineageRow(
        run=run.path.name,
        stage="dense" if uncut else "narrow",
        label="dense" if uncut else "compact",
        made="trained, not cut" if uncut else f"compressed by {info.method}",
        precision="fp32",
        top1=top1,
        top1_on="" if top1 is None else "test set",
        macs=info.compact.macs,
        params=info.compact.params,
        bytes=weights.stat().st_size if weights.is_file() else None,
        measured=find_measurements(results, is_network("compact")),
    )


def _export_row(
    run: RunFolder, info: CompactInfo | None, export: ExportFacts, results: Sequence[NamedResult]
) -> LineageRow:
    record = export.record
    costs = info.compact if info is not None and export.is_current else None
    parity = record.parity
    return LineageRow(
        run=run.path.name,
        stage="exported",
        label=record.file,
        made=f"exported as {record.format}" + ("" if export.is_current else " from an earlier compact model"),
        precision=record.precision,
        top1=parity.top1_exported,
        top1_on=f"{parity.images:,} images",
        macs=None if costs is None else costs.macs,
        params=None if costs is None else costs.params,
        bytes=sum(part.bytes for part in record.parts),
        measured=find_measurements(results, is_file_by_name(record.sha256), is_same_content(record.sha256)),
    )
