"""Networks of other libraries: ``torchvision/NAME`` and ``timm/NAME``, with random weights.

The libraries are imported only when such a name is given.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.models.registry import Size

TORCHVISION = "torchvision/"
TIMM = "timm/"

_TORCHVISION_ARGUMENTS: dict[str, dict[str, Any]] = {
    # one output tensor; the input as this package preprocesses it; initialized as in the paper
    "googlenet": {"aux_logits": False, "transform_input": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "transform_input": False, "init_weights": True},
}


def build_torchvision(name: str, num_classes: int, input_size: Size) -> nn.Module:
    """Build ``torchvision/NAME`` with random weights and one output tensor (no auxiliary heads).

    Raises:
        CompressError: no classification network has that name, or the images do not have 3 channels.
    """
    short = check_torchvision(name)
    if input_size[0] != 3:
        raise CompressError(
            f"{name} takes images of 3 channels, not {input_size[0]}",
            hint=f"give --input-size 3,{input_size[1]},{input_size[2]}: gray images are repeated to 3"
            " channels; or use a timm/NAME model",
            code="input-size",
        )
    import torchvision

    extra = _TORCHVISION_ARGUMENTS.get(short, {})
    model: nn.Module = torchvision.models.get_model(short, weights=None, num_classes=num_classes, **extra)
    return model


def check_torchvision(name: str) -> str:
    """Return NAME of ``torchvision/NAME``.

    Raises:
        CompressError: torchvision has no classification network of that name; the hint has the nearest.
    """
    short = name.removeprefix(TORCHVISION)
    known = torchvision_names()
    if short not in known:
        raise _unknown(name, "torchvision", known)
    return short


def build_timm(name: str, num_classes: int, input_size: Size) -> nn.Module:
    """Build ``timm/NAME`` with random weights.

    Raises:
        CompressError: timm is not installed, has no such model, or cannot build it for this input.
    """
    short = check_timm(name)
    import timm

    try:
        model: nn.Module = timm.create_model(
            short, pretrained=False, num_classes=num_classes, in_chans=input_size[0]
        )
    except Exception as error:
        raise CompressError(
            f"{name} cannot be built with {num_classes} classes and {input_size[0]} channels: {error}",
            hint="choose another timm model",
            code="model-failed",
        ) from error
    return model


def check_timm(name: str) -> str:
    """Return NAME of ``timm/NAME``.

    Raises:
        CompressError: timm is not installed (exit 3), or has no such model.
    """
    short = name.removeprefix(TIMM)
    timm = _import_timm(name)
    if not timm.is_model(short):
        raise _unknown(name, "timm", timm.list_models())
    return short


def find_torchvision(name: str) -> str | None:
    """Return ``torchvision/NAME`` if torchvision has a network called `name`, else None."""
    try:
        return f"{TORCHVISION}{name}" if name in torchvision_names() else None
    except (ImportError, RuntimeError):  # a torchvision that does not match torch must not hide the message
        return None


def timm_names() -> list[str]:
    """Return the names of timm's networks.

    Raises:
        CompressError: (exit 3) ``missing-package``.
    """
    return list(_import_timm(f"{TIMM}*").list_models())


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def _import_timm(needed_by: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise CompressError(
            f"{needed_by} needs the package timm, which is not installed",
            hint="pip install 'compress-cnn[timm]'",
            code="missing-package",
            exit=Exit.MISSING,
        ) from error
    return timm


def _unknown(name: str, library: str, known: list[str]) -> CompressError:
    short = name.partition("/")[2]
    return CompressError(
        f"unknown model {name!r}: {library} has no classification network {short!r}",
        hint=did_you_mean(short, known) or f"{library} has {len(known)} of them, such as {library}/resnet50",
        code="unknown-model",
    )
