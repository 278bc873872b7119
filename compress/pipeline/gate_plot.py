"""Plot of how the gates of a training closed and reopened."""

from __future__ import annotations

from pathlib import Path

from compress.core.files import atomic_path
from compress.training.metrics import read_metrics

FILENAME = "gates.png"


def plot_gates(run: Path, method: str, kind: str, target: float) -> Path | None:
    """Plot closed and reopened gates and the cost of a run's epochs into ``gates.png``; None without any.

    Args:
        run: the run folder, whose `metrics.jsonl` is read.
        method: the prefix of its metrics.
        kind: ``macs`` or ``params``.
        target: the target as a share of the dense cost.
    """
    rows = [row for row in read_metrics(run / "metrics.jsonl") if f"{method}_closed" in row]
    if not rows:
        return None
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(8, 5), layout="constrained")
    moves, cost = figure.subplots(2, 1, sharex=True)
    moves.bar(epochs, [row[f"{method}_closed"] for row in rows], label="closed", color="C3")
    moves.bar(epochs, [-float(row[f"{method}_reopened"]) for row in rows], label="reopened", color="C2")
    moves.axhline(0, color="grey", linewidth=0.8)
    moves.set(ylabel="gates per epoch", title=f"{run.name}: gates of {method}")
    moves.legend()
    unit = {"macs": "MACs", "params": "parameters"}[kind]
    cost.plot(epochs, [row[f"{method}_{kind}"] for row in rows], marker=".", label="with the open gates")
    cost.axhline(target, color="grey", linestyle="--", label="target")
    cost.set(xlabel="epoch", ylabel=f"share of the dense {unit}", ylim=(0, 1.05))
    cost.legend()
    path = run / FILENAME
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return path


__all__ = ["FILENAME", "plot_gates"]
