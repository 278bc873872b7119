"""Commands that train, slice and inspect networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compress.core import console
from compress.core.errors import CompressError
from compress.core.options import (
    PRECEDENCE,
    AlignOption,
    ClassesOption,
    DataOption,
    InputSizeOption,
    JsonOption,
    MeanOption,
    ModelOption,
    StdOption,
    WeightsOption,
    WorkersOption,
    command_line,
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


app = typer.Typer()


@app.command(epilog=TRAIN_EXAMPLES)
def train(
    method: Annotated[
        str | None,
        option(help="dcff, kdfs, abp, l1, random, scratch or dense; default: the recipe's, or dcff."),
    ] = None,
    target: Annotated[
        str | None,
        option(help="macs=F or params=F: a fraction of the dense network, or a number such as 60M."),
    ] = None,
    recipe: Annotated[
        str | None, option(help="A recipe's name or TOML file; `compress recipes` lists them.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        option(help="LAYER=RATE[,RATE...]: fraction dropped, instead of a target; repeatable."),
    ] = None,
    align: AlignOption = "auto",
    out: Annotated[Path | None, option(help="The run folder; default: runs/METHOD-MODEL-DATA.")] = None,
    resume: Annotated[bool, option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Print the plan; train and write nothing.")] = False,
    estimate: Annotated[
        bool,
        option("--estimate", help="Run the steps for a minute, print time and memory of it all, and end."),
    ] = False,
    estimate_seconds: Annotated[float, option(help="How long --estimate runs the steps.")] = 60.0,
    as_json: JsonOption = False,
    model: ModelOption = None,
    data: DataOption = None,
    num_classes: ClassesOption = None,
    input_size: InputSizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    weights: WeightsOption = None,
    teacher: Annotated[
        str | None, network_option(help="kdfs: run folder or weights of a trained dense network.")
    ] = None,
    residual: Annotated[
        str | None,
        training_option(
            help="Residual streams: keep (not cut), tied (cut together) or, kdfs and abp, scatter."
        ),
    ] = None,
    epochs: Annotated[int | None, training_option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, training_option(help="Images a step, over all processes.")] = None,
    lr: Annotated[float | None, training_option(help="Learning rate after the warm-up.")] = None,
    optimizer: Annotated[str | None, training_option(help="sgd, adamw or adamax.")] = None,
    momentum: Annotated[float | None, training_option(help="Momentum of SGD.")] = None,
    weight_decay: Annotated[float | None, training_option(help="Weight decay.")] = None,
    schedule: Annotated[str | None, training_option(help="cosine, step or constant.")] = None,
    warmup_epochs: Annotated[
        float | None, training_option(help="Epochs in which the learning rate rises.")
    ] = None,
    label_smoothing: Annotated[float | None, training_option(help="Label smoothing.")] = None,
    clip_grad: Annotated[float | None, training_option(help="Largest norm of the gradients.")] = None,
    ema: Annotated[
        float | None, training_option(help="Decay of a moving average of the weights, such as 0.999.")
    ] = None,
    seed: Annotated[int | None, training_option(help="Seed of everything random.")] = None,
    device: Annotated[str | None, training_option(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, training_option(help="fp32, bf16 or fp16 (mixed).")] = None,
    data_on_device: Annotated[
        str | None, training_option(help="Images on the device that trains: auto (if they fit), on or off.")
    ] = None,
    compile: Annotated[
        str | None,
        training_option(
            help="auto (measured; off on a CPU), on, cuda-graphs or off: torch.compile of the steps."
        ),
    ] = None,
    profile: Annotated[
        bool, training_option("--profile", help="Trace some steps; table of where their time goes.")
    ] = False,
    setting: Annotated[
        list[str] | None,
        training_option(
            "--set",
            envvar="COMPRESS_TRAIN_SET",
            help="KEY=VALUE: any other setting of training or method; repeatable.",
        ),
    ] = None,
    workers: WorkersOption = 2,
    dali: Annotated[
        bool, training_option("--dali", help="folder: decode on the GPU (needs NVIDIA DALI).")
    ] = False,
) -> None:
    """Train a network narrow and leave it in a run folder."""
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
    }
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
    console.print_result(*show.training(result))


@app.command("slice", epilog=SLICE_EXAMPLES)
def slice_(
    model: Annotated[str, network_option(help="Network, as for train.")],
    data: Annotated[str, network_option(help="Images, as for train: for verifying and accuracy.")],
    target: Annotated[str, option(help="macs=F or params=F.")],
    out: Annotated[Path, option(help="The run folder.")],
    weights: WeightsOption = None,
    criterion: Annotated[str, option(help="l1, l2, bn-scale or random.")] = "l1",
    num_classes: ClassesOption = None,
    input_size: InputSizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    align: AlignOption = "auto",
    seed: Annotated[int, option(help="Seed of random.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Cut a trained network by a criterion, without training."""
    from compress import pipeline
    from compress import tables as show

    result = pipeline.slice(
        model,
        target,
        data=data,
        out=out,
        weights=weights,
        input_size=parse_size(input_size),
        num_classes=num_classes,
        mean=parse_floats("--mean", mean),
        std=parse_floats("--std", std),
        criterion=criterion,  # type: ignore[arg-type]
        align=align,
        seed=seed,
        command=command_line(),
    )
    if as_json:
        console.print_json("slice", result.to_json())
        return
    console.print_result(*show.slicing(result))


@app.command(epilog=INSPECT_EXAMPLES)
def inspect(
    model: Annotated[str, network_option(help="Network, as for train.", show_default=False)],
    input_size: InputSizeOption = None,
    num_classes: ClassesOption = None,
    weights: WeightsOption = None,
    plot: Annotated[Path | None, option(help="Draw the MACs of each group (PNG, SVG or PDF).")] = None,
    as_json: JsonOption = False,
) -> None:
    """What can be cut of a network: its channel groups, what ties them, what is protected and why."""
    from compress import pipeline
    from compress import tables as show
    from compress.pipeline.inspection import plot as plot_groups

    found = pipeline.inspect(
        model, num_classes=num_classes, input_size=parse_size(input_size), weights=weights
    )
    if plot is not None:
        plot_groups(found, plot)
    if as_json:
        console.print_json("inspect", found.model_dump(mode="json"))
        return
    console.print_result(*show.inspection(found))


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="One of them: its settings and commands.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes: settings of the papers and ours, published numbers and measured ones."""
    from compress import recipes as book
    from compress import tables as show

    every = [book.load(word) for word in ([name] if name else book.list_recipes())]
    ours = book.load_measured()
    if as_json:
        rows = [book.describe_recipe(recipe, ours.get(recipe.name)) for recipe in every]
        console.print_json("recipes", {"recipes": rows})
        return
    console.print_result(
        *(show.recipe(every[0], ours.get(every[0].name)) if name else [show.recipes(every, ours)])
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
    console.print_result(*show.plan(summary))


def _print_estimate(found: Any, as_json: bool) -> None:
    from compress import tables as show

    if not found.is_first:
        return
    if as_json:
        console.print_json("train", found.to_json())
        return
    console.print_result(*show.estimate(found))


def _rates(items: list[str]) -> dict[str, list[float]]:
    out: dict[str, list[float]] = {}
    for item in items:
        name, _, rates = item.partition("=")
        try:
            out[name] = [float(rate) for rate in rates.split(",")]
        except ValueError as error:
            raise CompressError(
                f"--drop {item!r} is not understood",
                hint="write LAYER=RATE, such as 'layer1.*=0.5'",
                code="bad-drop",
            ) from error
    return out
