"""What a command found, for people: tables and lines. Nothing here computes or prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from compress.core.formatting import format_percent

if TYPE_CHECKING:
    from compress.pipeline import Estimate, Inspection, SliceResult, TrainResult
    from compress.recipes import Measured, Published, Recipe

Part = Table | str


def plan(summary: dict[str, Any]) -> list[Part]:
    """A plan (`Planned.summary`): costs, the paper's numbers, and the width of every group."""
    dense = summary["dense"]
    lines: list[Part] = [
        f"{summary['model']}: {dense['macs']:,} MACs, {dense['params']:,} parameters",
        f"narrow: {summary['macs']:,} MACs, {summary['params']:,} parameters, "
        f"{summary['mac_reduction']:.2f}x fewer MACs, widths in multiples of {summary['align']}",
    ]
    if "published" in summary:
        found = summary["published"]
        lines.append(
            f"published: {found['macs']:,} MACs, {found['params']:,} parameters "
            "(counted with thop, norms included)"
        )
    return [
        *lines,
        *(f"  {name:40} {kept:>5} of {width}" for name, (kept, width) in summary["widths"].items()),
    ]


def training(result: TrainResult) -> list[Part]:
    """A training: costs, accuracy, and the gate it passed."""
    sides = {"dense": result.dense.model_dump(), "compact": result.compact.model_dump()}
    lines: list[Part] = [
        costs(f"{result.method}: {result.run}", sides),
        f"top-1 {result.top1:.2%} after {result.epochs} epochs "
        f"(best {result.best_top1:.2%} in epoch {result.best_epoch})",
    ]
    gate = result.verify.get("compact_vs_trained")
    if gate:
        lines.append(
            f"compact = trained: largest relative difference {gate['max_rel']:.1e} "
            f"on {gate['samples']} images"
        )
    return lines + (profile(result.profile, str(result.run)) if result.profile else [])


def profile(found: dict[str, Any], run: str) -> list[Part]:
    """Where the time of a step goes (`profile/table.json`): its parts, and the operators with the most."""
    parts = Table(
        title=f"a step on {found['device']}: {found['step_ms']:.2f} ms (mean of {found['steps']})",
        title_justify="left",
    )
    top = Table(title=f"operators, by their own time ({found['traced_steps']} steps)", title_justify="left")
    for table, first in ((parts, "part"), (top, "operator")):
        for column in (first, "ms", "share"):
            table.add_column(column, justify="left" if column == first else "right", overflow="fold")
    top.add_column("calls", justify="right")
    for row in found["parts"]:
        parts.add_row(row["name"], f"{row['ms']:.2f}", f"{row['share']:.1%}")
    for row in found["operators"]:
        top.add_row(row["name"], f"{row['ms']:.2f}", f"{row['share']:.1%}", f"{row['calls']:,}")
    return [parts, top, f"trace: {run}/profile/{found['trace']}"]


def estimate(found: Estimate) -> list[Part]:
    """The time and memory of a training, where the time goes, and what that rests on."""
    middle, low, high = found.seconds
    first = found.stages[0].measured
    values = found.to_json()
    memory = f"memory: {_gigabytes(values['host_bytes'])} in this process"
    if values["workers_bytes"]:
        memory += f", {_gigabytes(values['workers_bytes'])} more in its workers"
    if values["device_bytes"] is not None and first.device_total is not None:
        memory += f"; {_gigabytes(values['device_bytes'])} of {_gigabytes(first.device_total)} on the device"
    table = Table(title="where the time goes", title_justify="left")
    for column in ("training", "epochs", "steps", "a step", "spread", "waiting", "before", "evaluation"):
        table.add_column(column, justify="left" if column in ("training", "epochs") else "right")
    notes: list[Part] = []
    for stage in found.stages:
        measured = stage.measured
        for phase in measured.phases:
            last = phase.first + phase.epochs
            table.add_row(
                stage.method,
                f"{phase.first + 1} to {last}",
                f"{phase.epochs * measured.steps_per_epoch:,}",
                duration(phase.step_s),
                f"{duration(phase.low_s)} to {duration(phase.high_s)}",
                f"{phase.waiting:.0%}",
                duration(phase.begin_s + phase.first_s + phase.end_s),
                duration(measured.evaluation_s),
            )
        steps = sum(phase.steps for phase in measured.phases)
        blocks = sum(phase.blocks for phase in measured.phases)
        warm_up = sum(phase.warm_up_steps for phase in measured.phases)
        notes.append(
            f"{stage.method}: from {steps} steps in {blocks} blocks after {warm_up} of warm-up, "
            f"{measured.evaluated:.0%} of the test images, and a checkpoint of "
            f"{measured.checkpoint_bytes / 1e6:,.1f} MB written twice in {duration(measured.checkpoint_s)} "
            f"({stage.checkpoints} in all)"
        )
    where = f"{first.device}, {first.processes} process{'es' * (first.processes > 1)}"
    return [
        f"about {duration(middle)} ({duration(low)} to {duration(high)}) for {found.data} on {where}",
        memory,
        table,
        *notes,
        "spread: 10th to 90th percentile of the blocks; waiting: share of a step's time without its images; "
        "before: what an epoch needs beside its steps. Not counted: the proof and saving of the compact "
        "network at the end, and whatever else the machine will do.",
    ]


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("s", 1.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def slicing(result: SliceResult) -> list[Part]:
    """Return the costs of a slice without training, and the accuracy before and after."""
    sides = {"dense": result.dense.model_dump(), "compact": result.compact.model_dump()}
    return [
        costs(f"slice: {result.run}", sides),
        f"top-1 {format_percent(result.dense_top1)} before, {format_percent(result.top1)} after",
    ]


def costs(title: str, sides: dict[str, dict[str, int]]) -> Table:
    """A row of MACs and parameters for each network."""
    table = Table(title=title, title_justify="left")
    for column in ("", "MACs", "parameters"):
        table.add_column(column, justify="right" if column else "left")
    for name, side in sides.items():
        table.add_row(name, f"{side['macs']:,}", f"{side['params']:,}")
    return table


def recipes(every: Sequence[Recipe], ours: Mapping[str, Measured]) -> Table:
    """The recipes with the numbers their papers publish, and with ours."""
    table = Table(
        title="published numbers (the papers count with thop, norms included), and ours where measured",
        title_justify="left",
    )
    for column in ("recipe", "model", "data"):
        table.add_column(column, no_wrap=column == "recipe")
    for column in ("epochs", "MACs", "parameters", "top-1", "ours"):
        table.add_column(column, justify="right")
    for recipe in every:
        table.add_row(
            recipe.name,
            recipe.model or "",
            recipe.data or "",
            str(recipe.train.get("epochs", "")),
            *_published(recipe.published),
            _ours(ours.get(recipe.name)),
        )
    return table


def recipe(found: Recipe, ours: Measured | None) -> list[Part]:
    """One recipe: what it is, what was published and measured of it, its settings, how it is started."""
    macs, params, top1 = _published(found.published)
    lines = [f"{found.name}: {found.description}"]
    lines.append(f"published: {macs} MACs, {params} parameters, top-1 {top1}" if found.published else "")
    if found.exact is not None:
        lines.append(
            f"exact: {found.exact.macs:,} MACs of convolutions and linear layers, "
            f"{found.exact.params or 0:,} parameters"
        )
    if found.own_widths:
        lines.append("the paper prints no widths; these are ours: compared with its row, no reproduction")
    if found.reference is not None:
        lines.append(f"compared with the published row of {found.reference}")
    lines.append("ours: not measured yet" if ours is None else f"ours: {_story(ours)}")
    settings = {"method": found.method, "model": found.model, "data": found.data, "target": found.target}
    given = {**{key: value for key, value in settings.items() if value}, **found.train, **found.options}
    lines.append("settings: " + ", ".join(f"{key}={value}" for key, value in given.items()))
    if found.launch is not None:
        lines += [f"{what}:\n  {command}" for what, command in found.launch.commands().items()]
    return [line for line in lines if line]


def _published(found: Published | None) -> tuple[str, str, str]:
    """MACs, parameters and top-1 as text."""
    if found is None:
        return "-", "-", "-"
    params = f"{found.params / 1e6:.2f}M" if found.params else "-"
    return f"{found.macs / 1e6:,.1f}M", params, f"{found.top1:.2f}" if found.top1 else "-"


def _ours(found: Measured | None) -> str:
    if found is None:
        return "-"
    return f"{found.top1:.2f}" + (f" ± {found.spread:.2f}" if found.spread is not None else "")


def _story(found: Measured) -> str:
    seeds = f"{len(found.seeds)} seed{'s' if len(found.seeds) > 1 else ''}"
    return (
        f"top-1 {_ours(found)} (best epochs {found.best_top1:.2f}), {found.epochs} epochs in "
        f"{found.minutes:.1f} minutes, {seeds}, {found.macs:,} MACs, {found.params:,} parameters; "
        f"{found.machine}, {found.date[:10]}"
    )


def inspection(found: Inspection) -> list[Part]:
    """A channel graph: a row for each group, then what is protected and why."""
    dense, least = found.dense, found.smallest
    table = Table(title=f"{found.model}: channel groups", title_justify="left")
    for column in ("group", "layers", "tied by"):
        table.add_column(column, overflow="fold")
    for column in ("width", "blocks", "MMACs", "MMACs a channel"):
        table.add_column(column, justify="right")
    for row in found.groups:
        more = f" and {len(row.layers) - 3} more" if len(row.layers) > 3 else ""
        table.add_row(
            row.name,
            ", ".join(row.layers[:3]) + more,
            ", ".join(row.ties),
            str(row.width),
            str(row.blocks) if row.blocks > 1 else "",
            f"{row.macs / 1e6:,.1f}",
            f"{row.macs_per_channel / 1e6:,.3f}",
        )
    kept = Table(title="protected: never cut", title_justify="left")
    for column in ("layer", "channels", "why"):
        kept.add_column(column, justify="right" if column == "channels" else "left", overflow="fold")
    for entry in found.protected:
        kept.add_row(entry.name, str(entry.width), entry.why)
    return [
        f"{dense.macs:,} MACs, {dense.params:,} parameters; {found.cuttable:.1%} of the MACs can be cut "
        f"(to {least.macs:,})",
        table,
        kept,
    ]
