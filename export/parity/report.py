"""The results of the parity check as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.export.parity.chain import ParityLink
from compress.export.trust.manifest import FileRecord


def parity_lines(record: FileRecord) -> list[str]:
    """Return the parity check of a released file: one line for the whole file, then one per comparison."""
    parity = record.parity
    step = record.details.get("parity_of", record.file)
    first = (
        f"parity on {parity.images} images ({step} and the compact network): largest difference "
        f"{parity.max_abs:.2e}, same class {parity.agreement:.2%}, top-1 {parity.top1_reference:.2%} and "
        f"{parity.top1_exported:.2%}"
    )
    links = [ParityLink.model_validate(link) for link in record.details.get("chain", ())]
    return [first, *map(_link_line, links), *_float32_lines(record)]


def _link_line(link: ParityLink) -> str:
    head = f"  {link.against} = {link.name}: {link.status}"
    if link.status == "not run":
        return f"{head}: {link.reason}"
    facts = []
    if link.max_abs is not None and link.limit_rel is not None and link.max_rel is not None:
        facts.append(
            f"largest difference {link.max_abs:.2e}, {link.max_rel:.1e} of the largest logit "
            f"(limit {link.limit_rel:.0e})"
        )
    if link.agreement is not None:
        facts.append(f"same class {link.agreement:.2%}")
    if link.top1 is not None:
        facts.append(f"top-1 {link.top1:.2%}")
    reason = [] if link.reason is None else [link.reason]
    return f"{head}: {', '.join([*facts, *reason])} [{link.runner}]"


def _float32_lines(record: FileRecord) -> list[str]:
    """Return which layers stayed in float32, and why."""
    report: Mapping[str, Any] = record.details.get(record.precision, {})
    lines = [
        f"  {node['node']} ({node['operator']}) stays in float32: {node['reason']}"
        + ("" if node["tensor"] is None else f" of {node['tensor']}, largest value {node['largest']:.3g}")
        for node in report.get("float_nodes", ())
    ]
    layers = report.get("float_layers", ())
    return lines + ([f"  in float32 without --quantize-ends: {', '.join(layers)}"] if layers else [])
