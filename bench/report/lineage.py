"""The artefacts of a run in the order in which each came from the one before."""

from __future__ import annotations

from collections.abc import Sequence

from compress.artifact import CompactInfo, RunFolder
from compress.bench.report.facts import ExportFacts, LineageRow
from compress.bench.report.measured import Told, measured, of_content, of_named_file, of_network

UNCUT = "dense"
"""The method that trains the dense network itself."""


def lineage(
    run: RunFolder, info: CompactInfo | None, exports: Sequence[ExportFacts], results: Sequence[Told]
) -> tuple[LineageRow, ...]:
    """Return the dense network, the compact one, and every exported file."""
    uncut = run.record.method == UNCUT
    rows = [] if uncut and info is not None else [_dense(run, info, results)]
    if info is not None:
        rows.append(_narrow(run, info, results, uncut))
    rows += [_exported(run, info, found, results) for found in exports]
    return tuple(rows)


def _dense(run: RunFolder, info: CompactInfo | None, results: Sequence[Told]) -> LineageRow:
    top1 = None if info is None else info.extra.get("dense_top1")
    return LineageRow(
        run=run.path.name,
        stage="dense",
        label="dense",
        made="before the cut" if top1 is not None else "fresh weights, a yardstick for speed",
        precision="fp32",
        top1=top1,
        top1_on="" if top1 is None else "test set",
        macs=run.record.dense.macs,
        params=run.record.dense.params,
        bytes=_dense_bytes(results),
        measured=measured(results, of_network("dense")),
    )


def _dense_bytes(results: Sequence[Told]) -> int | None:
    is_it = of_network("dense")
    sizes = (
        found.baseline.bytes
        for told in results
        for found in told.result.comparisons
        if is_it(found.baseline, told)
    )
    return next((size for size in sizes if size is not None), None)


def _narrow(run: RunFolder, info: CompactInfo, results: Sequence[Told], uncut: bool) -> LineageRow:
    top1 = info.extra.get("top1")
    weights = run.compact / "weights.safetensors"
    return LineageRow(
        run=run.path.name,
        stage="dense" if uncut else "narrow",
        label="dense" if uncut else "compact",
        made="trained, nothing cut" if uncut else f"made narrow by {info.method}",
        precision="fp32",
        top1=top1,
        top1_on="" if top1 is None else "test set",
        macs=info.compact.macs,
        params=info.compact.params,
        bytes=weights.stat().st_size if weights.is_file() else None,
        measured=measured(results, of_network("compact")),
    )


def _exported(
    run: RunFolder, info: CompactInfo | None, found: ExportFacts, results: Sequence[Told]
) -> LineageRow:
    record = found.record
    costs = info.compact if info is not None and found.is_current else None
    same = record.parity
    return LineageRow(
        run=run.path.name,
        stage="exported",
        label=record.file,
        made=f"exported as {record.format}" + ("" if found.is_current else " from an earlier compact model"),
        precision=record.precision,
        top1=same.top1_exported,
        top1_on=f"{same.images:,} images",
        macs=None if costs is None else costs.macs,
        params=None if costs is None else costs.params,
        bytes=sum(part.bytes for part in record.parts),
        measured=measured(results, of_named_file(record.sha256), of_content(record.sha256)),
    )
