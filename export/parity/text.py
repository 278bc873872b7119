"""A parity chain in words, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.export.parity.chain import Link
from compress.export.trust.manifest import FileRecord


def chain_lines(record: FileRecord) -> list[str]:
    """Say how near a released file is to its network, a line for the whole and one a link."""
    whole = record.parity
    what = record.details.get("parity_of", record.file)
    first = (
        f"parity on {whole.images} images ({what} and the compact network): largest difference "
        f"{whole.max_abs:.2e}, same class {whole.agreement:.2%}, top-1 {whole.top1_reference:.2%} and "
        f"{whole.top1_exported:.2%}"
    )
    links = [Link.model_validate(link) for link in record.details.get("chain", ())]
    return [first, *map(link_line, links), *_kept(record)]


def link_line(link: Link) -> str:
    """One link in a line."""
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


def _kept(record: FileRecord) -> list[str]:
    """Which layers stayed in float32, and why."""
    report: Mapping[str, Any] = record.details.get(record.precision, {})
    nodes = report.get("float_nodes", ())
    lines = [
        f"  {node['node']} ({node['operator']}) stays in float32: {node['reason']}"
        + ("" if node["tensor"] is None else f" of {node['tensor']}, largest value {node['largest']:.3g}")
        for node in nodes
    ]
    layers = report.get("float_layers", ())
    return lines + ([f"  in float32 without --quantize-ends: {', '.join(layers)}"] if layers else [])
