"""Build, list and record networks by name: built-in, ``torchvision/``, ``timm/`` or from a file."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from torch import nn

from compress.core.errors import CompressError
from compress.core.spec import ModelSpec
from compress.models import external, from_file
from compress.models.registry import MODELS, Size
from compress.models.weights import load_weights


def build(
    name: str,
    num_classes: int = 10,
    input_size: Size = (3, 32, 32),
    weights: str | Path | None = None,
    *,
    reset_head: bool | None = None,
) -> nn.Module:
    """Build the dense network `name`, on the CPU, in training mode.

    Args:
        name: a built-in name (see `list_models`), ``torchvision/NAME``, ``timm/NAME`` or
            ``path/to/file.py:factory``.
        num_classes: width of the last layer.
        input_size: ``(channels, height, width)`` of one image.
        weights: a weights file or the run folder of a dense network, see `load_weights`; None: random
            weights from torch's seed.
        reset_head: see `load_weights`.

    Raises:
        CompressError: an unknown name, a missing package or file, an input the network cannot take, or
            weights that do not fit.
    """
    _check_sizes(name, num_classes, input_size)
    if from_file.is_file_name(name):
        model = from_file.build(name, num_classes, input_size)
    elif name.startswith(external.TORCHVISION):
        model = external.build_torchvision(name, num_classes, input_size)
    elif name.startswith(external.TIMM):
        model = external.build_timm(name, num_classes, input_size)
    else:
        _check_registered(name)
        model = MODELS[name].build(name, num_classes, input_size)
    if weights is not None:
        load_weights(model, weights, reset_head=reset_head)
    return model.train()


def list_models(pattern: str | None = None) -> list[str]:
    """Return the names of networks, sorted.

    Args:
        pattern: shell-style wildcards, such as ``resnet*``, ``torchvision/*`` or ``timm/*mobilenet*``; the
            networks of torchvision and timm are listed only for a pattern that starts with their prefix.
            None: all built-in networks and those of installed plug-ins.

    Raises:
        CompressError: (exit 3) ``missing-package``: a ``timm/`` pattern without timm.
    """
    if pattern is None:
        return MODELS.names()
    if pattern.startswith(external.TORCHVISION):
        names = [f"{external.TORCHVISION}{name}" for name in external.torchvision_names()]
    elif pattern.startswith(external.TIMM):
        names = [f"{external.TIMM}{name}" for name in external.timm_names()]
    else:
        names = MODELS.names()
    return sorted(fnmatch.filter(names, pattern))


def model_spec(name: str, num_classes: int = 10, input_size: Size = (3, 32, 32)) -> ModelSpec:
    """Return the record from which `build_from_spec` makes the same dense network again.

    The path of a model file is stored absolute, with the SHA-256 of its text.

    Raises:
        CompressError: an unknown name, or a missing package or file.
    """
    _check_sizes(name, num_classes, input_size)
    sha: str | None = None
    if from_file.is_file_name(name):
        name, sha = from_file.identify(name)
    elif name.startswith(external.TORCHVISION):
        external.check_torchvision(name)
    elif name.startswith(external.TIMM):
        external.check_timm(name)
    else:
        _check_registered(name)
    return ModelSpec(name=name, num_classes=num_classes, input_size=input_size, source_sha256=sha)


def build_from_spec(record: ModelSpec) -> nn.Module:
    """Build the dense network that `record` describes.

    Raises:
        CompressError: as `build`; also ``model-changed`` if the text of a model file is no longer the
            recorded one, since its forward could then compute something else with the same weights.
    """
    if record.source_sha256 is not None:
        _, sha = from_file.identify(record.name)
        if sha != record.source_sha256:
            raise CompressError(
                f"the file of model {record.name!r} has changed since the run"
                f" (SHA-256 {sha[:12]}, recorded {record.source_sha256[:12]})",
                hint="restore the file that the run was trained with, or train again",
                code="model-changed",
            )
    return build(record.name, record.num_classes, record.input_size)


def _check_sizes(name: str, num_classes: int, input_size: Size) -> None:
    if num_classes < 1:
        raise CompressError(
            f"{name}: the number of classes must be at least 1, not {num_classes}", hint="give at least 1"
        )
    if len(input_size) != 3 or min(input_size) < 1:
        raise CompressError(
            f"{name}: invalid input size {tuple(input_size)}",
            hint="give channels, height and width, such as 3,32,32",
            code="input-size",
        )


def _check_registered(name: str) -> None:
    """Raise unless `MODELS` has the name; the hint also covers the other forms of names."""
    if name in MODELS:
        return
    forms = "other forms: torchvision/NAME, timm/NAME, path/to/file.py:FACTORY"
    in_torchvision = external.find_torchvision(name)
    if in_torchvision:
        raise CompressError(
            f"there is no model {name!r}",
            hint=f"Did you mean {in_torchvision}? Built-in: {', '.join(MODELS.names())}; {forms}",
            code="unknown-model",
            details={"name": name, "known": MODELS.names()},
        )
    MODELS.get_or_raise(name, hint=f"({forms})")
