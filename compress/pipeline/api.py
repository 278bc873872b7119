"""`compress.train`: objects or names in, a result object out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from torch import nn

from compress.core.errors import CompressError
from compress.methods import MethodConfig
from compress.pipeline.objects import DataLike, as_image_data
from compress.pipeline.request import Size, TrainRequest
from compress.pipeline.training import TrainResult, run_training
from compress.training.progress import Progress, notebook_progress

logger = logging.getLogger(__name__)


def train(
    model: nn.Module | str,
    data: DataLike,
    method: MethodConfig | str = "dcff",
    *,
    target: str | None = None,
    out: str | Path | None = None,
    drop: Mapping[str, float | Sequence[float]] | None = None,
    weights: str | Path | None = None,
    reset_head: bool | None = None,
    teacher: nn.Module | str | None = None,
    pretrained: bool = True,
    num_classes: int | None = None,
    input_size: Size | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    align: str | int = "auto",
    recipe: str | None = None,
    resume: bool = False,
    workers: int = 2,
    profile: bool = False,
    progress: Progress | Literal["auto"] | None = "auto",
    say: Callable[[str], None] = logger.info,
    **settings: Any,
) -> TrainResult:
    """Train a compact model.

    Args:
        model: the dense network, which is not changed, or its name.
        data: a data set of `compress.data`, a pair (train, test) of torch datasets or data loaders, or a
            name. The batch size of a training loader is used unless ``batch_size`` is given.
        method: a configuration object such as ``compress.KDFS()``, or a name with its default settings.
        target: cost of the compact model: ``macs=0.5``, ``macs=50%``, ``params=0.4``, ``macs=60M``, or
            ``speedup=2`` (planned as 2 times fewer MACs).
        out: the run folder. None: a temporary folder that is removed with the result; `TrainResult.save`
            keeps it.
        drop: layer name or pattern -> fraction or fractions dropped, instead of a target.
        weights: weights of the dense network: a file, or the run folder of a dense network.
        reset_head: whether the classifier keeps random weights instead of those in `weights`; None: if its
            number of classes differs, with a warning.
        teacher: a trained dense network (module, run folder or weights file) for a method that learns from
            one.
        pretrained: whether the weights of a module passed as `model` are trained. If not, a method that
            starts from a trained network trains the dense network first.
        num_classes: classes of the model; None: those of the data.
        input_size: channels, height and width of an image, for data by name; None: the data's own.
        mean: normalization per channel, on the 0 to 1 scale; None: the data's own.
        std: likewise.
        align: ``auto``, ``none`` or a number that widths are multiples of.
        recipe: name of a recipe or path of a TOML file, for settings that are not given.
        resume: resume the run in `out`.
        workers: processes that decode images, for data by name.
        profile: trace some steps of the training.
        progress: ``auto``: a bar in a notebook or on a terminal; None: none; or an object of your own.
        say: receives messages, such as about a dense network that is trained first.
        **settings: fields of `compress.training.TrainConfig`, such as ``epochs=30, lr=0.1, device="cuda"``.

    Returns:
        The result with the compact module, its accuracy and costs, and the run folder. `compress.load(run)`
        loads the model again; for a module passed as `model`, `compress.load(run, model=module)` does.

    Raises:
        CompressError: whatever is wrong with the arguments, the data or the training; (exit 5) the compact
            model does not compute what was trained, and nothing was saved.

    Example:
        >>> import compress
        >>> result = compress.train("vgg_small", "digits", compress.DCFF(), target="macs=0.5",
        ...                         input_size=(1, 8, 8), epochs=1, progress=None)
        >>> result.compact.macs < 0.51 * result.dense.macs
        True
    """
    if not (progress is None or progress == "auto" or hasattr(progress, "epoch")):
        raise CompressError(f"progress={progress!r} is not understood", hint="pass 'auto', None or an object")
    for name, path in (("out", out), ("weights", weights), ("recipe", recipe)):
        if path is not None and not isinstance(path, str | PathLike):
            raise CompressError(f"{name}={path!r} is not a path", hint=f"pass {name}='PATH'")
    request = TrainRequest(
        method=method,
        model=model,
        data=data if isinstance(data, str) else as_image_data(data, num_classes=num_classes),
        recipe=recipe,
        target=target,
        drop=_drop_rates(drop),
        num_classes=num_classes,
        input_size=input_size,
        mean=mean,
        std=std,
        weights=str(weights) if weights is not None else None,
        reset_head=reset_head,
        teacher=teacher,
        pretrained=pretrained,
        align=str(align),
        settings=settings,
        out=out,
        resume=resume,
        workers=workers,
        profile=profile,
    )
    shown = notebook_progress() if progress == "auto" else progress
    if out is not None:
        return run_training(request, progress=shown, say=say)
    if resume:
        raise CompressError("resume needs the run folder", hint="pass out=RUN", code="nothing-to-resume")
    temporary = tempfile.TemporaryDirectory(prefix="compress-")
    result = run_training(replace(request, out=Path(temporary.name) / "run"), progress=shown, say=say)
    return replace(result, _temporary=temporary)


def _drop_rates(drop: object) -> dict[str, list[float]]:
    """Return the fractions dropped by layer or pattern; one number stands for a list of it.

    Raises:
        CompressError: (exit 2) ``bad-drop``: another form.
    """
    rates: dict[str, list[float]] = {}
    for name, given in drop.items() if isinstance(drop, Mapping) else ():
        values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        if not isinstance(name, str) or not all(isinstance(value, Real) for value in values):
            rates.clear()
            break
        rates[name] = [float(value) for value in values]
    if drop and not rates:
        raise CompressError(
            f"the drop rates {drop!r} are not understood", hint="pass {'layer1.*': 0.5}", code="bad-drop"
        )
    return rates
