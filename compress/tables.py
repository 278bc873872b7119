"""Results of commands as tables and lines of text. Nothing here computes or prints."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from rich.table import Table

from compress.core.formatting import (
    format_difference,
    format_duration,
    format_gigabytes,
    format_percent,
    format_quantity,
)

if TYPE_CHECKING:
    from compress.pipeline import Estimate, Inspection, SliceResult, TrainResult
    from compress.recipes import Measured, Published, Recipe

Part = Table | str


def render_plan(summary: dict[str, Any]) -> list[Part]:
    """Return a plan (`PlannedNetwork.summary`): costs, published numbers, and the width of every group."""
    dense = summary["dense"]
    lines: list[Part] = [
        f"{summary['model']}: {dense['macs']:,} MACs, {dense['params']:,} parameters",
        f"compact: {summary['macs']:,} MACs, {summary['params']:,} parameters, "
        f"{summary['mac_reduction']:.2f}x fewer MACs, widths in multiples of {summary['align']}",
    ]
    if "published" in summary:
        published = summary["published"]
        lines.append(
            f"published: {published['macs']:,} MACs, {published['params']:,} parameters "
            "(counted with thop, norms included)"
        )
    return [
        *lines,
        *(f"  {name:40} {kept:>5} of {width}" for name, (kept, width) in summary["widths"].items()),
    ]


def render_training(result: TrainResult) -> list[Part]:
    """Return the outcome of a training: costs, accuracy, and the exactness check."""
    sides = {"dense": result.dense.model_dump(), "compact": result.compact.model_dump()}
    lines: list[Part] = [
        costs_table(f"{result.method}: {result.run}", sides),
        f"top-1 {result.top1:.2%} after {format_quantity(result.epochs, 'epoch')} "
        f"(best {result.best_top1:.2%} in epoch {result.best_epoch})",
    ]
    check = result.verify.get("compact_vs_trained")
    if check:
        lines.append(
            f"compact = trained: largest relative difference {format_difference(check['max_rel'])} "
            f"on {check['samples']} images"
        )
    return lines + (render_profile(result.profile, str(result.run)) if result.profile else [])


def render_profile(profile: dict[str, Any], run: str) -> list[Part]:
    """Return the time of the parts of a step and of the slowest operators (`profile/table.json`)."""
    parts = Table(
        title=f"a step on {profile['device']}: {profile['step_ms']:.2f} ms (mean of {profile['steps']})",
        title_justify="left",
    )
    top = Table(title=f"operators, by their own time ({profile['traced_steps']} steps)", title_justify="left")
    for table, first in ((parts, "part"), (top, "operator")):
        for column in (first, "ms", "share"):
            table.add_column(column, justify="left" if column == first else "right", overflow="fold")
    top.add_column("calls", justify="right")
    for row in profile["parts"]:
        parts.add_row(row["name"], f"{row['ms']:.2f}", f"{row['share']:.1%}")
    for row in profile["operators"]:
        top.add_row(row["name"], f"{row['ms']:.2f}", f"{row['share']:.1%}", f"{row['calls']:,}")
    return [parts, top, f"trace: {run}/profile/{profile['trace']}"]


def render_estimate(estimate: Estimate) -> list[Part]:
    """Return the estimated time and memory of a training, its parts, and what was measured for it."""
    middle, low, high = estimate.seconds
    first = estimate.stages[0].measured
    values = estimate.to_json()
    memory = f"memory: {format_gigabytes(values['host_bytes'])} in this process"
    if values["workers_bytes"]:
        memory += f", {format_gigabytes(values['workers_bytes'])} more in its workers"
    if values["device_bytes"] is not None and first.device_total is not None:
        used, total = format_gigabytes(values["device_bytes"]), format_gigabytes(first.device_total)
        memory += f"; {used} of {total} on the device"
    table = Table(title="where the time goes", title_justify="left")
    for column in ("training", "epochs", "steps", "a step", "spread", "waiting", "before", "evaluation"):
        table.add_column(column, justify="left" if column in ("training", "epochs") else "right")
    notes: list[Part] = []
    for stage in estimate.stages:
        measured = stage.measured
        for phase in measured.phases:
            last = phase.first + phase.epochs
            table.add_row(
                stage.method,
                f"{phase.first + 1} to {last}",
                f"{phase.epochs * measured.steps_per_epoch:,}",
                format_duration(phase.step_s),
                f"{format_duration(phase.low_s)} to {format_duration(phase.high_s)}",
                f"{phase.waiting:.0%}",
                format_duration(phase.begin_s + phase.first_s + phase.end_s),
                format_duration(measured.evaluation_s),
            )
        steps = sum(phase.steps for phase in measured.phases)
        blocks = sum(phase.blocks for phase in measured.phases)
        warm_up = sum(phase.warm_up_steps for phase in measured.phases)
        notes.append(
            f"{stage.method}: from {steps} steps in {blocks} blocks after {warm_up} of warm-up, "
            f"{measured.evaluated:.0%} of the test images, and a checkpoint of "
            f"{measured.checkpoint_bytes / 1e6:,.1f} MB written twice in "
            f"{format_duration(measured.checkpoint_s)} "
            f"({stage.checkpoints} in all)"
        )
    where = f"{first.device}, {first.processes} process{'es' * (first.processes > 1)}"
    return [
        f"about {format_duration(middle)} ({format_duration(low)} to {format_duration(high)}) "
        f"for {estimate.data} on {where}",
        memory,
        table,
        *notes,
        "spread: 10th to 90th percentile of the blocks; waiting: share of a step's time without its images; "
        "before: what an epoch needs besides its steps. Not included: verifying and saving the compact model "
        "at the end, and other load on the machine.",
    ]


def render_slice(result: SliceResult) -> list[Part]:
    """Return the costs of a slice without training, and the accuracy before and after."""
    sides = {"dense": result.dense.model_dump(), "compact": result.compact.model_dump()}
    return [
        costs_table(f"slice: {result.run}", sides),
        f"top-1 {format_percent(result.dense_top1)} before, {format_percent(result.top1)} after",
    ]


def costs_table(title: str, sides: dict[str, dict[str, int]]) -> Table:
    """Return a table with MACs and parameters of each network."""
    table = Table(title=title, title_justify="left")
    for column in ("", "MACs", "parameters"):
        table.add_column(column, justify="right" if column else "left")
    for name, side in sides.items():
        table.add_row(name, f"{side['macs']:,}", f"{side['params']:,}")
    return table


def recipes_table(every: Sequence[Recipe], ours: Mapping[str, Measured]) -> Table:
    """Return the recipes with the numbers that their papers publish and those measured here."""
    table = Table(
        title="published numbers (the papers count with thop, norms included) and our measurements",
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
            _measured_top1(ours.get(recipe.name)),
        )
    return table


def render_recipe(recipe: Recipe, ours: Measured | None) -> list[Part]:
    """Return one recipe: description, published and measured numbers, settings, commands."""
    macs, params, top1 = _published(recipe.published)
    lines = [f"{recipe.name}: {recipe.description}"]
    lines.append(f"published: {macs} MACs, {params} parameters, top-1 {top1}" if recipe.published else "")
    if recipe.exact is not None:
        lines.append(
            f"exact: {recipe.exact.macs:,} MACs of convolutions and linear layers, "
            f"{recipe.exact.params or 0:,} parameters"
        )
    if recipe.own_widths:
        lines.append("the paper prints no widths; these are ours: compared with its row, no reproduction")
    if recipe.reference is not None:
        lines.append(f"compared with the published row of {recipe.reference}")
    lines.append("ours: not measured yet" if ours is None else f"ours: {_describe_measurement(ours)}")
    settings = {"method": recipe.method, "model": recipe.model, "data": recipe.data, "target": recipe.target}
    given = {**{key: value for key, value in settings.items() if value}, **recipe.train, **recipe.options}
    lines.append("settings: " + ", ".join(f"{key}={value}" for key, value in given.items()))
    if recipe.launch is not None:
        lines += [f"{what}:\n  {command}" for what, command in recipe.launch.commands().items()]
    return [line for line in lines if line]


def _published(published: Published | None) -> tuple[str, str, str]:
    """Return MACs, parameters and top-1 as text."""
    if published is None:
        return "-", "-", "-"
    params = f"{published.params / 1e6:.2f}M" if published.params else "-"
    return f"{published.macs / 1e6:,.1f}M", params, f"{published.top1:.2f}" if published.top1 else "-"


def _measured_top1(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    return f"{measured.top1:.2f}" + (f" ± {measured.spread:.2f}" if measured.spread is not None else "")


def _describe_measurement(measured: Measured) -> str:
    seeds = f"{len(measured.seeds)} seed{'s' if len(measured.seeds) > 1 else ''}"
    return (
        f"top-1 {_measured_top1(measured)} (best epochs {measured.best_top1:.2f}), {measured.epochs} "
        "epochs in "
        f"{measured.minutes:.1f} minutes, {seeds}, {measured.macs:,} MACs, {measured.params:,} parameters; "
        f"{measured.machine}, {measured.date[:10]}"
    )


def render_inspection(inspection: Inspection) -> list[Part]:
    """Return a channel graph: one row per group, then the protected layers with the reason."""
    dense, least = inspection.dense, inspection.smallest
    table = Table(title=f"{inspection.model}: channel groups", title_justify="left")
    for column in ("group", "layers", "tied by"):
        table.add_column(column, overflow="fold")
    for column in ("width", "blocks", "MMACs", "MMACs per channel"):
        table.add_column(column, justify="right")
    for row in inspection.groups:
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
    for entry in inspection.protected:
        kept.add_row(entry.name, str(entry.width), entry.why)
    return [
        f"{dense.macs:,} MACs, {dense.params:,} parameters; "
        f"{format_percent(inspection.cuttable, 1)} of the MACs can be cut "
        f"(to {least.macs:,})",
        table,
        kept,
    ]


def settings_table(title: str, settings: type[BaseModel], defaults: Mapping[str, Any] | None = None) -> Table:
    """Return the fields of a settings class with type, default and description, for ``--set help``.

    Args:
        title: of the table.
        settings: the class.
        defaults: values that replace its defaults.
    """
    table = Table(title=title, title_justify="left")
    for column in ("key", "type", "default", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    meanings = attribute_docs(settings)
    for name, field in settings.model_fields.items():
        table.add_row(
            name,
            _type_name(field.annotation),
            _default((defaults or {}).get(name, field.default)),
            meanings.get(name, ""),
        )
    return table


def attribute_docs(settings: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions in the ``Attributes`` sections of a class and its base classes."""
    docs: dict[str, str] = {}
    for cls in reversed(settings.__mro__):
        section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
        for match in re.finditer(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE):
            docs[match[1]] = " ".join(match[2].replace("``", "").split())
    return docs


def _type_name(annotation: Any) -> str:
    """Return a type as a user would write its values: ``a | b`` for literals."""
    if get_origin(annotation) is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    arguments = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is tuple:
        return f"list of {_type_name(arguments[0])}"
    if arguments:
        return " | ".join(map(_type_name, arguments))
    return getattr(annotation, "__name__", str(annotation))


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return "" if value is None else json.dumps(value).strip('"')
