"""Counts of the zoo's results, and the results as a terminal table and as Markdown."""

from __future__ import annotations

from typing import Any

from rich.table import Table

HEADER = (
    "network, pixels",
    "trace s",
    "groups",
    "MACs that can be removed",
    "MACs left",
    "difference",
    "protected (besides the outputs)",
    "Torch-Pruning, MACs left",
)


def outcome(row: dict[str, Any]) -> str:
    """Return the outcome of one toolchain on one network in a few words."""
    if "raises" in row:
        return "raises"
    if not row["exact"]:
        return "wrong"
    return "exact" if row.get("reached_half", True) else "exact, half of the MACs not reached"


def count_results(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Count the networks that ran, were exact and reached half of their MACs."""
    ours, theirs = [r["ours"] for r in rows], [r["torch_pruning"] for r in rows]
    return {
        "ours": {
            "networks": len(rows),
            "run": sum("raises" not in r for r in ours),
            "exact": sum(bool(r.get("exact")) for r in ours),
            "exact_at_half_the_channels": sum(bool(r.get("half_channels", {}).get("exact")) for r in ours),
            "reach_half": sum(bool(r.get("reached_half")) for r in ours),
            "train": sum(bool(r.get("gradients")) for r in ours),
        },
        "torch_pruning": {
            "networks": len(rows),
            "run": sum("raises" not in r for r in theirs),
            "exact": sum(bool(r.get("exact")) for r in theirs),
            "exact_at_half_the_macs": sum(bool(r.get("exact")) and r["macs_ratio"] <= 0.51 for r in theirs),
        },
    }


def format_row(row: dict[str, Any]) -> list[str]:
    """Return the table cells of one network."""
    ours, torch_pruning = row["ours"], _format_torch_pruning(row["torch_pruning"])
    name = f"{row['network'].removeprefix('torchvision/')} {row['pixels']}"
    if "raises" in ours:
        return [name, *[""] * 5, ours["raises"][:60], torch_pruning]
    error = ours["error"] if ours["error_float64"] is None else ours["error_float64"]
    protected = [p for p in ours["protected"] if p["why"] != "network output"]
    return [
        name,
        f"{ours['trace_s']:.1f}",
        str(ours["groups"]),
        f"{ours['cuttable']:.1%}",
        f"{ours['macs_ratio']:.1%}",
        f"{error:.0e}",
        f"{protected[0]['channels']}: {protected[0]['why'][:60]}" if protected else "",
        torch_pruning,
    ]


def _format_torch_pruning(row: dict[str, Any]) -> str:
    if "raises" in row:
        return f"raises {row['raises'].split(':')[0]}"
    verdict = "exact" if row["exact"] else f"wrong by {row['error']:.0%}"
    return f"{verdict}, {row['macs_ratio']:.0%}"


def render_zoo_markdown(record: dict[str, Any]) -> str:
    """Return the record as a sentence with the counts and a Markdown table."""
    ours, theirs = record["summary"]["ours"], record["summary"]["torch_pruning"]
    lines = [
        f"Of {ours['networks']} networks, {ours['exact']} are sliced exactly and {ours['reach_half']} reach"
        f" half of their MACs; with half the channels of every group {ours['exact_at_half_the_channels']}"
        f" are exact. With half the channels of its groups, Torch-Pruning {record['torch_pruning']} runs on"
        f" {theirs['run']} and is exact on {theirs['exact']}.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---|" + "---:|" * 5 + "---|---|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(format_row(row)) + " |" for row in record["rows"])]) + "\n"


def render_zoo_table(record: dict[str, Any]) -> Table:
    """Return the record as a table for the terminal."""
    table = Table(*HEADER)
    for row in record["rows"]:
        table.add_row(*format_row(row))
    return table
