"""The artefacts of a run in the order in which each came from the one before."""

from __future__ import annotations

from collections.abc import Sequence

from bench.record import BenchResult
from bench.report.facts import ExportFacts, LineageRow
from bench.report.measured import measured, of_content, of_named_file, of_network
from compress.artifact import CompactInfo, RunFolder

UNCUT = "dense"
"""The method that trains the dense network itself."""


def lineage(
    run: RunFolder, info: CompactInfo | None, exports: Sequence[ExportFacts], results: Sequence[BenchResult]
) -> tuple[LineageRow, ...]:
    """Return the dense network, the compact one, and every exported file."""
    uncut = run.record.method == UNCUT
    rows = [] if uncut and info is not None else [_dense(run, info, results)]
    if info is not None:
        rows.append(_narrow(run, info, results, uncut))
    rows += [_exported(run, info, found, results) for found in exports]
    return tuple(rows)


def _dense(run: RunFolder, info: CompactInfo | None, results: Sequence[BenchResult]) -> LineageRow:
    top1 = None if info is None else info.extra.get("dense_top1")
    return LineageRow(
        run=run.path.name,
        stage="dense",
        label="dense",
        made="given weights" if top1 is not None else "fresh weights, a yardstick for speed",
        precision="fp32",
        top1=top1,
        top1_on="" if top1 is None else "test set",
        macs=run.record.dense.macs,
        params=run.record.dense.params,
        bytes=_dense_bytes(run.path.name, results),
        measured=measured(run.path.name, results, of_network(run.path.name, "dense")),
    )


def _dense_bytes(run: str, results: Sequence[BenchResult]) -> int | None:
    is_it = of_network(run, "dense")
    sizes = (found.baseline.bytes for r in results for found in r.comparisons if is_it(found.baseline))
    return next((size for size in sizes if size is not None), None)


def _narrow(run: RunFolder, info: CompactInfo, results: Sequence[BenchResult], uncut: bool) -> LineageRow:
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
        measured=measured(run.path.name, results, of_network(run.path.name, "compact")),
    )


def _exported(
    run: RunFolder, info: CompactInfo | None, found: ExportFacts, results: Sequence[BenchResult]
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
        measured=measured(run.path.name, results, of_named_file(record.sha256), of_content(record.sha256)),
    )
