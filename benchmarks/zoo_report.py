"""The zoo's record as counts, as a table for a terminal and as Markdown."""

from __future__ import annotations

from typing import Any

from rich.table import Table

HEADER = (
    "network, pixels",
    "trace s",
    "groups",
    "MACs that can be cut",
    "MACs left",
    "error",
    "protected (besides the outputs)",
    "Torch-Pruning, MACs left",
)


def verdict(row: dict[str, Any]) -> str:
    """One word on a row."""
    if "raises" in row:
        return "raises"
    if not row["exact"]:
        return "wrong"
    return "exact" if row.get("reached_half", True) else "exact, half out of reach"


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How many networks ran, were exact and reached the target."""
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


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    ours, other = row["ours"], _other(row["torch_pruning"])
    name = f"{row['network'].removeprefix('torchvision/')} {row['pixels']}"
    if "raises" in ours:
        return [name, *[""] * 5, ours["raises"][:60], other]
    error = ours["error"] if ours["error_float64"] is None else ours["error_float64"]
    held = [p for p in ours["protected"] if p["why"] != "network output"]
    return [
        name,
        f"{ours['trace_s']:.1f}",
        str(ours["groups"]),
        f"{ours['cuttable']:.1%}",
        f"{ours['macs_ratio']:.1%}",
        f"{error:.0e}",
        f"{held[0]['channels']}: {held[0]['why'][:60]}" if held else "",
        other,
    ]


def _other(row: dict[str, Any]) -> str:
    if "raises" in row:
        return f"raises {row['raises'].split(':')[0]}"
    judged = "exact" if row["exact"] else f"wrong by {row['error']:.0%}"
    return f"{judged}, {row['macs_ratio']:.0%}"


def markdown(record: dict[str, Any]) -> str:
    """The record as a Markdown table, with the counts in a line before it."""
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
    return "\n".join([*lines, *("| " + " | ".join(cells(row)) + " |" for row in record["rows"])]) + "\n"


def table(record: dict[str, Any]) -> Table:
    """The record for a terminal."""
    shown = Table(*HEADER)
    for row in record["rows"]:
        shown.add_row(*cells(row))
    return shown
