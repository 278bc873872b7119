"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from compress.core.errors import CompressError
from compress.core.names import complete_list, complete_names

N = TypeVar("N")

PRECEDENCE = (
    "Options can also be set by environment variables: COMPRESS_TRAIN_EPOCHS=5 for `train --epochs 5`, "
    "COMPRESS_JSON=1 for --json. A flag overrides the environment, the environment a recipe, "
    "a recipe the default."
)


option = partial(typer.Option, show_envvar=False)
training_option = partial(option, rich_help_panel="Training")
_NETWORK = "Network and data"
network_option = partial(option, rich_help_panel=_NETWORK)
gate_option = partial(option, rich_help_panel="Stored results and quality gates", show_default=False)
gpu_option = partial(option, rich_help_panel="PyTorch and GPUs")
deployment_option = partial(option, rich_help_panel="Deployment", show_default=False)
scenario_option = partial(option, show_default=False)


def name_option(kind: str, help: str, **settings: Any) -> Any:
    """Return an option whose value is a name of a registry, or several with commas between.

    Args:
        kind: of the names (see `compress.core.names`), which the shell completes.
        help: the placeholder ``{kind}`` in it is replaced by all names.
    """

    def complete(incomplete: str) -> list[str]:
        return complete_names(kind, incomplete)

    return option(help=help, autocompletion=complete, **settings)


def _word_option(words: tuple[str, ...], help: str, **settings: Any) -> Any:
    """Return an option whose values are a few words, which the shell completes."""

    def complete(incomplete: str) -> list[str]:
        return complete_list(words, incomplete)

    return option(help=help, autocompletion=complete, **settings)


JsonOption = Annotated[
    bool, option("--json", envvar="COMPRESS_JSON", help="Print exactly one JSON object on stdout.")
]
_MODEL_HELP = "Network: {models}, torchvision/NAME, timm/NAME or FILE.py:FACTORY."
ModelOption = Annotated[str | None, name_option("models", _MODEL_HELP, rich_help_panel=_NETWORK)]
RequiredModelOption = Annotated[
    str, name_option("models", _MODEL_HELP, rich_help_panel=_NETWORK, show_default=False)
]
_DATA_HELP = "Data set: {datasets}; with an argument: folder:DIR, hf:NAME, npz:FILE."
DataOption = Annotated[str | None, name_option("datasets", _DATA_HELP, rich_help_panel=_NETWORK)]
RequiredDataOption = Annotated[
    str, name_option("datasets", _DATA_HELP, rich_help_panel=_NETWORK, show_default=False)
]
InputSizeOption = Annotated[
    str | None, network_option(help="Channels, height and width of an image, such as 3,32,32.")
]
ClassesOption = Annotated[
    int | None, network_option(min=1, help="Number of classes; default: that of the data.")
]
MeanOption = Annotated[
    str | None,
    network_option(
        help="Mean of each channel that the weights were trained with, such as 0.485,0.456,0.406."
    ),
]
StdOption = Annotated[
    str | None,
    network_option(help="Standard deviation of each channel, as for --mean, such as 0.229,0.224,0.225."),
]
WeightsOption = Annotated[
    str | None,
    network_option(help="Weights of the dense network: safetensors, a torch checkpoint, or a dense run."),
]
ResetHeadOption = Annotated[
    bool | None,
    network_option(
        "--reset-head/--no-reset-head",
        help="Start the classifier from random weights, not those of --weights; "
        "default: if the number of classes differs.",
        show_default=False,
    ),
]
_TARGET_HELP = "Size of the compact model: macs=0.5, params=50%, macs=60M or speedup=2 (planned as MACs)."
TargetOption = Annotated[str | None, option(help=_TARGET_HELP)]
RequiredTargetOption = Annotated[str, option(help=_TARGET_HELP, show_default=False)]
AlignOption = Annotated[str, option(help="Make channel counts multiples of this: auto, none, or a number.")]
WorkersOption = Annotated[int, option(min=0, help="Number of processes that decode images.")]
ThreadsOption = Annotated[int | None, option(min=1, help="Number of threads; default: physical cores.")]
TrustOption = Annotated[
    bool, option("--trust", help="Load an engine, which is native code, although no manifest lists it.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)]
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FilePrecisionsOption = Annotated[
    str, _word_option(PRECISIONS, f"Precisions of the file, separated by commas: {', '.join(PRECISIONS)}.")
]


# --- values ---------------------------------------------------------------------------------------------


def parse_size(text: str | None) -> tuple[int, int, int] | None:
    """Return channels, height and width from text such as ``3,32,32``; None for None.

    Raises:
        CompressError: ``input-size``: the text is something else.
    """
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise CompressError(
            f"--input-size {text!r} is not three positive numbers",
            hint="give channels, height and width, such as 3,32,32",
            code="input-size",
        )
    channels, height, width = (int(part) for part in parts)
    return channels, height, width


def parse_integers(flag: str, text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as ``1,8,32``.

    Raises:
        CompressError: ``bad-option``: the text is something else.
    """
    return tuple(_parse_list(flag, text, int, "1,8,32"))


def parse_floats(flag: str, text: str | None) -> tuple[float, ...] | None:
    """Return the numbers of a list such as ``0.485,0.456,0.406``; None for None.

    Raises:
        CompressError: ``bad-option``: the text is something else.
    """
    return None if text is None else tuple(_parse_list(flag, text, float, "0.485,0.456,0.406"))


def _parse_list(flag: str, text: str, number: Callable[[str], N], example: str) -> list[N]:
    try:
        return [number(part) for part in text.split(",")]
    except ValueError as error:
        raise CompressError(
            f"{flag} {text!r} is not a list of numbers", hint=f"such as {example}", code="bad-option"
        ) from error


def parse_settings(items: list[str]) -> dict[str, Any]:
    """Return the settings of ``--set KEY=VALUE`` options; values are read as JSON, else taken as text.

    Raises:
        CompressError: ``bad-setting``: one of them is not of that form.
    """
    settings: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CompressError(
                f"--set {item!r} is not KEY=VALUE",
                hint="write KEY=VALUE, such as min_lr=0.001",
                code="bad-setting",
            )
        try:
            settings[key.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            settings[key.replace("-", "_")] = value
    return settings


# --- what the command line holds --------------------------------------------------------------------------


def given_options(context: typer.Context) -> dict[str, str]:
    """Return the flags given on the command line (not by the environment), by parameter name."""
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    }


def refuse_options(context: typer.Context, flag: str, names: tuple[str, ...]) -> None:
    """Refuse options that have no meaning together with `flag`.

    Args:
        context: of the command.
        flag: as in the error message, such as ``--explain``.
        names: of the parameters that are refused.

    Raises:
        CompressError: ``bad-option``: one of them was given.
    """
    given = given_options(context)
    for name in names:
        if name in given:
            raise CompressError(
                f"{given[name]} cannot be combined with {flag}",
                hint=f"leave out {given[name]}",
                code="bad-option",
            )


def command_line() -> list[str]:
    """Return the command line of this process, as it is recorded in a run."""
    return ["compress", *sys.argv[1:]]
