"""Commands that train, slice and inspect networks, and list what is available."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from compress.core import console
from compress.core.command_line import CommandApp
from compress.core.errors import CompressError
from compress.core.garbage_collection import garbage_collection_paused
from compress.core.names import registered_names
from compress.core.options import (
    PRECEDENCE,
    AlignOption,
    ClassesOption,
    DataOption,
    InputSizeOption,
    JsonOption,
    MeanOption,
    ModelOption,
    RequiredDataOption,
    RequiredModelOption,
    RequiredTargetOption,
    ResetHeadOption,
    StdOption,
    TargetOption,
    WeightsOption,
    WorkersOption,
    command_line,
    name_option,
    network_option,
    option,
    parse_floats,
    parse_settings,
    parse_size,
    training_option,
)

TRAIN_EXAMPLES = f"""\b
Examples:
  compress train --model resnet20 --data cifar10 --target macs=0.5 --epochs 5
  compress train --recipe dcff-resnet56-cifar10 --dry-run
  compress train --model net.py:make --data folder:photos --target params=0.4
  compress train --model vgg16 --data cifar10 --drop 'features.*=0.5'
  compress train --model vgg16 --data npz:x.npz --method dense --set nesterov=true
  compress train ... --estimate
  compress train ... --out runs/a --resume

{PRECEDENCE}"""


SLICE_EXAMPLES = """\b
Example:
  compress slice --model resnet56 --weights dense.safetensors --data cifar10 \\
      --target macs=0.7 --out runs/cut"""


INSPECT_EXAMPLES = """\b
Examples:
  compress inspect --model resnet56
  compress inspect --model torchvision/resnet50 --input-size 3,224,224 --plot groups.png"""


app = CommandApp()


@app.command(epilog=TRAIN_EXAMPLES, rich_help_panel="Compress")
def train(
    method: Annotated[
        str | None,
        name_option("methods", "Method: {methods}; default: that of the recipe, or dcff."),
    ] = None,
    target: TargetOption = None,
    recipe: Annotated[
        str | None, name_option("recipes", "Recipe: a name that `compress recipes` lists, or a TOML file.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        option(help="LAYER=RATE[,RATE...]: fraction of channels to drop, instead of a target; repeatable."),
    ] = None,
    align: AlignOption = "auto",
    out: Annotated[Path | None, option(help="Run folder; default: runs/METHOD-MODEL-DATA.")] = None,
    resume: Annotated[
        bool, option("--resume", help="Resume the run in --out; its settings are kept.")
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", help="Print the plan without training; nothing is written.")
    ] = False,
    estimate: Annotated[
        bool,
        option(
            "--estimate",
            help="Run training steps for a minute, then print the estimated time and memory of the training.",
        ),
    ] = False,
    estimate_seconds: Annotated[
        float, option(help="Seconds for which --estimate runs training steps.")
    ] = 60.0,
    as_json: JsonOption = False,
    model: ModelOption = None,
    data: DataOption = None,
    num_classes: ClassesOption = None,
    input_size: InputSizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    weights: WeightsOption = None,
    reset_head: ResetHeadOption = None,
    teacher: Annotated[
        str | None, network_option(help="kdfs: run folder or weights of the trained dense network.")
    ] = None,
    residual: Annotated[
        str | None,
        training_option(help="Residual streams: keep (not cut), tied (cut together) or scatter (kdfs, abp)."),
    ] = None,
    epochs: Annotated[int | None, training_option(help="Passes over the training images.")] = None,
    batch_size: Annotated[
        int | None, training_option(help="Images per step, summed over all processes.")
    ] = None,
    lr: Annotated[float | None, training_option(help="Learning rate after the warm-up.")] = None,
    optimizer: Annotated[str | None, training_option(help="Optimizer: sgd, adamw or adamax.")] = None,
    momentum: Annotated[float | None, training_option(help="Momentum of SGD.")] = None,
    weight_decay: Annotated[float | None, training_option(help="Weight decay.")] = None,
    schedule: Annotated[
        str | None, training_option(help="Learning rate schedule: cosine, step or constant.")
    ] = None,
    warmup_epochs: Annotated[float | None, training_option(help="Epochs of learning rate warm-up.")] = None,
    label_smoothing: Annotated[float | None, training_option(help="Label smoothing.")] = None,
    clip_grad: Annotated[float | None, training_option(help="Clip the gradients to this norm.")] = None,
    ema: Annotated[
        float | None,
        training_option(help="Decay of the exponential moving average of the weights, such as 0.999."),
    ] = None,
    seed: Annotated[int | None, training_option(help="Random seed.")] = None,
    device: Annotated[str | None, training_option(help="Device: auto, cpu, cuda or mps.")] = None,
    precision: Annotated[
        str | None, training_option(help="Precision of training: fp32, or bf16 or fp16 (mixed precision).")
    ] = None,
    data_on_device: Annotated[
        str | None,
        training_option(help="Keep the training images on the device: auto (if they fit), on or off."),
    ] = None,
    compile: Annotated[
        str | None,
        training_option(help="torch.compile: auto (if faster; off on a CPU), on, cuda-graphs or off."),
    ] = None,
    track: Annotated[
        str | None,
        training_option(help="Where metrics are logged: tensorboard (the default), wandb, mlflow or none."),
    ] = None,
    sync_bn: Annotated[
        str | None,
        training_option(
            help="Synchronize batch-norm statistics between processes: auto (on several GPUs), on or off."
        ),
    ] = None,
    profile: Annotated[
        bool, training_option("--profile", help="Profile some steps and print where their time goes.")
    ] = False,
    setting: Annotated[
        list[str] | None,
        training_option(
            "--set",
            envvar="COMPRESS_TRAIN_SET",
            help="KEY=VALUE: any other setting; repeatable. `--set help` lists all keys.",
        ),
    ] = None,
    workers: WorkersOption = 2,
    dali: Annotated[
        bool, training_option("--dali", help="Data set folder: decode images on the GPU (needs NVIDIA DALI).")
    ] = False,
) -> None:
    """Train a compact model and save it in a run folder."""
    with garbage_collection_paused():
        from compress import pipeline, training
        from compress import tables as show

    flags = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "optimizer": optimizer,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "warmup_epochs": warmup_epochs,
        "label_smoothing": label_smoothing,
        "clip_grad": clip_grad,
        "ema": ema,
        "seed": seed,
        "device": device,
        "precision": precision,
        "data_on_device": data_on_device,
        "compile": compile,
        "track": track,
        "sync_bn": sync_bn,
    }
    if "help" in (setting or []):
        _print_settings(method, recipe, as_json)
        return
    more = parse_settings(setting or []) | ({"residual": residual} if residual is not None else {})
    known = set(training.TrainConfig.model_fields)
    request = pipeline.TrainRequest(
        method=method,
        model=model,
        data=data,
        recipe=recipe,
        target=target,
        drop=_rates(drop or []),
        num_classes=num_classes,
        input_size=parse_size(input_size),
        mean=parse_floats("--mean", mean),
        std=parse_floats("--std", std),
        weights=weights,
        reset_head=reset_head,
        teacher=teacher,
        align=align,
        settings={
            **{key: value for key, value in flags.items() if value is not None},
            **{key: value for key, value in more.items() if key in known},
        },
        options={key: value for key, value in more.items() if key not in known},
        out=out,
        resume=resume,
        workers=workers,
        profile=profile,
        dali=dali,
    )
    if dry_run:
        _print_plan(request, as_json)
        return
    if estimate:
        _print_estimate(pipeline.estimate(request, estimate_seconds, say=console.print_message), as_json)
        return
    result = pipeline.run_training(
        request, progress=training.progress_for(), command=command_line(), say=console.print_message
    )
    if not result.is_first:
        return
    if as_json:
        console.print_json("train", result.to_json())
        return
    console.print_result(*show.render_training(result))


@app.command("slice", epilog=SLICE_EXAMPLES, rich_help_panel="Compress")
def slice_(
    model: RequiredModelOption,
    data: RequiredDataOption,
    target: RequiredTargetOption,
    out: Annotated[Path, option(help="Run folder.", show_default=False)],
    weights: WeightsOption = None,
    reset_head: ResetHeadOption = None,
    criterion: Annotated[
        str, name_option("criteria", "Criterion that ranks the channels: {criteria}.")
    ] = "l1",
    num_classes: ClassesOption = None,
    input_size: InputSizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    align: AlignOption = "auto",
    seed: Annotated[int, option(help="Random seed of the criterion random.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Slice a trained network by a criterion, without training."""
    from compress import pipeline
    from compress import tables as show

    result = pipeline.slice(
        model,
        target,
        data=data,
        out=out,
        weights=weights,
        reset_head=reset_head,
        input_size=parse_size(input_size),
        num_classes=num_classes,
        mean=parse_floats("--mean", mean),
        std=parse_floats("--std", std),
        criterion=criterion,
        align=align,
        seed=seed,
        command=command_line(),
    )
    if as_json:
        console.print_json("slice", result.to_json())
        return
    console.print_result(*show.render_slice(result))


@app.command(epilog=INSPECT_EXAMPLES, rich_help_panel="Compress")
def inspect(
    model: RequiredModelOption,
    input_size: InputSizeOption = None,
    num_classes: ClassesOption = None,
    weights: WeightsOption = None,
    plot: Annotated[Path | None, option(help="Draw the MACs of each group (PNG, SVG or PDF).")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the channel groups of a network, what ties them, and which layers are protected and why."""
    from compress import pipeline
    from compress import tables as show
    from compress.pipeline.inspection import plot as plot_groups

    inspection = pipeline.inspect(
        model, num_classes=num_classes, input_size=parse_size(input_size), weights=weights
    )
    if plot is not None:
        plot_groups(inspection, plot)
    if as_json:
        console.print_json("inspect", inspection.model_dump(mode="json"))
        return
    console.print_result(*show.render_inspection(inspection))


@app.command("list", rich_help_panel="Start here")
def list_(
    kind: Annotated[
        Literal["methods", "models", "datasets", "formats", "backends", "criteria", "recipes"],
        typer.Argument(
            metavar="KIND",
            help="One of: methods, models, datasets, formats, backends, criteria, recipes.",
            show_default=False,
        ),
    ],
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN", help="Wildcards, such as 'resnet*' or 'torchvision/*'.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the names that options accept: methods, models, data sets, formats, back ends, ..."""
    names = list(registered_names(kind))
    if kind == "models" and pattern is not None:
        from compress.models import list_models

        names = list_models(pattern)
    elif pattern is not None:
        names = fnmatch.filter(names, pattern)
    if as_json:
        console.print_json("list", {"kind": kind, "names": names})
        return
    console.print_result(*names)


@app.command(rich_help_panel="Start here")
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of one recipe, whose settings and commands are shown.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes with published and measured results, or show one."""
    from compress import recipes as book
    from compress import tables as show

    every = [book.load(word) for word in ([name] if name else book.list_recipes())]
    ours = book.load_measured()
    if as_json:
        rows = [book.describe_recipe(recipe, ours.get(recipe.name)) for recipe in every]
        console.print_json("recipes", {"recipes": rows})
        return
    console.print_result(
        *(
            show.render_recipe(every[0], ours.get(every[0].name))
            if name
            else [show.recipes_table(every, ours)]
        )
    )


def _print_settings(method: str | None, recipe: str | None, as_json: bool) -> None:
    """Print the keys of ``--set`` with types and defaults."""
    from pydantic import BaseModel

    from compress import pipeline, training
    from compress import tables as show

    kind = pipeline.method_of(pipeline.TrainRequest(method=method, recipe=recipe))
    if as_json:
        parts: dict[str, type[BaseModel]] = {
            "training": training.TrainConfig,
            "method": kind.config_type,
        }
        schemas = {name: part.model_json_schema()["properties"] for name, part in parts.items()}
        console.print_json("train", {"settings": schemas})
        return
    console.print_result(
        show.settings_table("settings of the training", training.TrainConfig, kind.training_defaults),
        show.settings_table(f"settings of {kind.name}", kind.config_type),
    )


def _print_plan(request: Any, as_json: bool) -> None:
    from compress import pipeline
    from compress import tables as show

    resolved = pipeline.resolve_or_resume(request)
    summary = pipeline.plan_request(resolved).summary(resolved)
    if not console.is_first_process():
        return
    if as_json:
        values = {"dry_run": True, **summary, "out": str(resolved.out), "settings": resolved.settings()}
        console.print_json("train", values)
        return
    console.print_result(*show.render_plan(summary))


def _print_estimate(estimate: Any, as_json: bool) -> None:
    from compress import tables as show

    if not estimate.is_first:
        return
    if as_json:
        console.print_json("train", estimate.to_json())
        return
    console.print_result(*show.render_estimate(estimate))


def _rates(items: list[str]) -> dict[str, list[float]]:
    """Return the rates of ``--drop LAYER=RATE[,RATE...]`` options by layer."""
    out: dict[str, list[float]] = {}
    for item in items:
        name, _, rates = item.partition("=")
        try:
            out[name] = [float(rate) for rate in rates.split(",")]
        except ValueError as error:
            raise CompressError(
                f"--drop {item!r} is not LAYER=RATE",
                hint="write LAYER=RATE, such as 'layer1.*=0.5'",
                code="bad-drop",
            ) from error
    return out
