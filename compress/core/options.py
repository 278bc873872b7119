"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from compress.core.errors import CompressError

PRECEDENCE = (
    "An option may also come from the environment: COMPRESS_TRAIN_EPOCHS=5 for `train --epochs 5`, "
    "COMPRESS_JSON=1 for --json. A flag goes before the environment, the environment before a recipe, "
    "a recipe before the default."
)


# the epilog says once how an option is set by the environment
option = partial(typer.Option, show_envvar=False)
training_option = partial(option, rich_help_panel="Training")
gate_option = partial(option, rich_help_panel="Stored results and gates", show_default=False)
staircase_option = partial(option, rich_help_panel="Latency against width", show_default=False)
deployment_option = partial(option, rich_help_panel="Deployment", show_default=False)
network_option = partial(option, rich_help_panel="Network and data")
scenario_option = partial(option, rich_help_panel="Scenarios", show_default=False)

JsonOption = Annotated[
    bool, option("--json", envvar="COMPRESS_JSON", help="Print exactly one JSON object on stdout.")
]
ModelOption = Annotated[
    str | None, network_option(help="Network: resnet56, torchvision/NAME, timm/NAME, FILE.py:FACTORY.")
]
DataOption = Annotated[
    str | None, network_option(help="Images: digits, cifar10, cifar100, npz:FILE, folder:DIR, hf:NAME.")
]
InputSizeOption = Annotated[
    str | None, network_option(help="Channels, height and width of an image, such as 3,32,32.")
]
ClassesOption = Annotated[int | None, network_option(min=1, help="Number of classes; default: the data's.")]
MeanOption = Annotated[
    str | None, network_option(help="Mean a channel that the weights want, such as 0.485,0.456,0.406.")
]
StdOption = Annotated[
    str | None, network_option(help="Standard deviation a channel, such as 0.229,0.224,0.225.")
]
WeightsOption = Annotated[
    str | None, network_option(help="Weights of the dense network (safetensors, or torch without pickle).")
]
AlignOption = Annotated[str, option(help="Widths are multiples of: auto, none, or a number.")]
WorkersOption = Annotated[int, option(min=0, help="Processes that decode images.")]
BACKENDS = "torch, torch-compile, ort-cpu, ort-cuda, ort-trt, trt, trt-rtx, openvino"
TrustOption = Annotated[bool, option("--trust", help="Load an engine (native code) without a manifest.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]


def parse_size(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise CompressError(
            f"the input size {text!r} is not understood",
            hint="channels, height and width, such as 3,32,32",
            code="input-size",
        )
    c, h, w = (int(part) for part in parts)
    return c, h, w


def parse_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise CompressError(
            f"{text!r} is not a list of numbers", hint="such as 1,8,32", code="bad-option"
        ) from error


def parse_floats(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise CompressError(
            f"{flag} {text!r} is not a list of numbers", hint="such as 0.485,0.456,0.406", code="bad-option"
        ) from error


def parse_settings(items: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CompressError(
                f"--set {item!r} is not understood",
                hint="write KEY=VALUE, such as min_lr=0.001",
                code="bad-setting",
            )
        try:
            out[key.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            out[key.replace("-", "_")] = value
    return out


def refuse_options(context: typer.Context, flag: str, others: tuple[str, ...]) -> None:
    """Refuse options that say nothing beside a flag."""
    for name in others:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise CompressError(
                f"{flag} has no --{name.replace('_', '-')}", hint="leave it out", code="bad-option"
            )


def command_line() -> list[str]:
    return ["compress", *sys.argv[1:]]
