"""From a model's name to a module, whatever the name's form."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.core.spec import ModelSpec
from compress.models import external, from_file, registry
from compress.models.weights import load_weights

Size = tuple[int, int, int]


def build(
    name: str,
    num_classes: int = 10,
    input_size: Size = (3, 32, 32),
    weights: str | Path | None = None,
) -> nn.Module:
    """Build the dense network `name`, on the CPU, in training mode.

    Args:
        name: a built-in name (see `list_models`), ``torchvision/NAME``, ``timm/NAME`` or
            ``path/to/file.py:factory``.
        num_classes: width of the last layer.
        input_size: ``(channels, height, width)`` of one image.
        weights: a file for `load_weights`; without one the network is initialised from torch's seed.

    Raises:
        CompressError: an unknown name, a missing package or file, an input the network cannot take, or
            weights that do not fit.
    """
    _check_sizes(name, num_classes, input_size)
    if from_file.is_file_name(name):
        model = from_file.build(name, num_classes, input_size)
    elif name.startswith("torchvision/"):
        model = external.build_torchvision(name, num_classes, input_size)
    elif name.startswith("timm/"):
        model = external.build_timm(name, num_classes, input_size)
    elif registry.is_builtin(name):
        model = registry.build_builtin(name, num_classes, input_size)
    else:
        raise _unknown(name)
    if weights is not None:
        load_weights(model, weights)
    return model.train()


def model_spec(name: str, num_classes: int = 10, input_size: Size = (3, 32, 32)) -> ModelSpec:
    """Return the record from which `build_from_spec` makes the same dense network again.

    A model file's path is stored absolute, with the SHA-256 of its text.

    Raises:
        CompressError: an unknown name, or a missing package or file.
    """
    _check_sizes(name, num_classes, input_size)
    sha: str | None = None
    if from_file.is_file_name(name):
        name, sha = from_file.identify(name)
    elif name.startswith("torchvision/"):
        external.check_torchvision(name)
    elif name.startswith("timm/"):
        external.check_timm(name)
    elif not registry.is_builtin(name):
        raise _unknown(name)
    return ModelSpec(name=name, num_classes=num_classes, input_size=input_size, source_sha256=sha)


def build_from_spec(record: ModelSpec) -> nn.Module:
    """Build the dense network that `record` describes.

    Raises:
        CompressError: as `build`; also if a model file's text is no longer the one recorded, since its
            forward could then compute something else with the same weights.
    """
    if record.source_sha256 is not None:
        _, sha = from_file.identify(record.name)
        if sha != record.source_sha256:
            raise CompressError(
                f"{record.name}: the file has changed since the run was made"
                f" (SHA-256 {sha[:12]}, recorded {record.source_sha256[:12]})",
                hint="restore the file as it was, or train again",
                code="model-file-changed",
                exit=Exit.MISSING,
            )
    return build(record.name, record.num_classes, record.input_size)


def _check_sizes(name: str, num_classes: int, input_size: Size) -> None:
    if num_classes < 1:
        raise CompressError(f"{name}: the number of classes is {num_classes}", hint="give at least 1")
    if len(input_size) != 3 or min(input_size) < 1:
        raise CompressError(
            f"{name}: the input size is {tuple(input_size)}",
            hint="give channels, height and width, such as 3,32,32",
            code="input-size",
        )


def _unknown(name: str) -> CompressError:
    outside = external.prefixed(name)
    guess = f"Did you mean {outside}?" if outside else did_you_mean(name, registry.list_models())
    listing = (
        f"built-in: {', '.join(registry.list_models())};"
        " also torchvision/NAME, timm/NAME and path/to/file.py:factory"
    )
    return CompressError(f"unknown model {name!r}", hint=f"{guess} {listing}".strip(), code="unknown-model")
