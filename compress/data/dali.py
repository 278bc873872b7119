"""Training batches decoded and cropped on an NVIDIA GPU by DALI (``--dali``, an optional extra).

The images and their order are those of the host's pipeline. Where an image is cropped is drawn by DALI, from
a seed of (seed, epoch, rank): the same every time, but not the host's crops. The test images stay with the
host, whose resize is the one that the preprocessing record promises to a deployed network.

Written after DALI's documentation (fn.readers.file, fn.decoders.image_random_crop, fn.resize and
plugin.pytorch.DALIGenericIterator of version 2).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from compress.core.errors import CompressError, Exit
from compress.core.spec import DataInfo
from compress.data import order
from compress.data.base import Batch, Batches
from compress.data.crops import AREA, ATTEMPTS, RATIO
from compress.data.decoded import Decoded, View
from compress.data.pixels import normaliser

_READER = "files"


class Files(Protocol):
    """Labelled image files by number; what else `Decoded` asks of images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]: ...

    def pixels(self, index: int) -> tuple[Tensor, int]: ...

    def path(self, index: int) -> str:
        """Return the path of an image."""
        ...

    def label(self, index: int) -> int:
        """Return its label."""
        ...


def package() -> str:
    """Return the name of the wheel for the CUDA that this torch was built with."""
    major = (torch.version.cuda or "13").partition(".")[0]
    return f"nvidia-dali-cuda{major}0"


def require() -> None:
    """Make sure that DALI is installed.

    Raises:
        CompressError: (exit 3) ``missing-package``, with the command that installs it.
    """
    try:
        importlib.import_module("nvidia.dali.plugin.pytorch")
    except ImportError as error:
        raise CompressError(
            f"--dali needs NVIDIA DALI, which cannot be imported: {error}",
            hint=f"pip install {package()}, or leave out --dali",
            code="missing-package",
            exit=Exit.MISSING,
        ) from error


class DaliDecoded(Decoded):
    """A `Decoded` whose training batches come from DALI."""

    def __init__(
        self,
        train: Files,
        test: Files,
        view: View,
        info: DataInfo,
        workers: int,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(train, test, view, info, workers, device)
        self._files = train

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        chosen = order.train_batches(
            len(self._files), batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        plan = Plan(
            batch_size=len(chosen[0]),
            size=self._info.preprocess.input_size[1:],
            threads=max(self._count, 1),
            seed=order.stable_seed("dali", seed, epoch, rank) % 2**31,
        )
        return _DaliBatches(self._files, chosen, plan, self._device, self._floats)

    def _floats(self) -> Callable[[Tensor], Tensor]:
        return normaliser(self._info.preprocess, self._device)


@dataclass(frozen=True)
class Plan:
    """What one epoch's pipeline is built with.

    Attributes:
        size: height and width of an image. threads: on the host, for reading and the decoder's part there.
    """

    batch_size: int
    size: tuple[int, int]
    threads: int
    seed: int


@dataclass(frozen=True)
class _DaliBatches:
    """One epoch; every iteration builds its own pipeline, so that it begins with the same seed."""

    files: Files
    chosen: Sequence[Tensor]
    plan: Plan
    device: torch.device
    floats: Callable[[], Callable[[Tensor], Tensor]]

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Batch]:
        if self.device.type != "cuda":
            raise CompressError(
                f"--dali decodes on an NVIDIA GPU and the device is {self.device.type!r}",
                hint="leave out --dali, or give --device cuda",
                code="no-device",
                exit=Exit.MISSING,
            )
        to_floats = self.floats()
        numbers = [number for batch in self.chosen for number in batch.tolist()]
        paths = [self.files.path(number) for number in numbers]
        labels = [self.files.label(number) for number in numbers]
        try:
            for images, targets in _run(paths, labels, self.plan, self.device):
                # height, width, channels in memory is what channels_last means
                yield to_floats(images.permute(0, 3, 1, 2)), targets.view(-1).to(torch.int64)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
                raise
            raise CompressError(
                f"DALI cannot make a batch: {' '.join(str(error).split())[:400]}",
                hint="an image that cannot be decoded is named without --dali",
                code="data-unreadable",
                exit=Exit.MISSING,
            ) from error


def _run(
    paths: list[str], labels: list[int], plan: Plan, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield uint8 `[B, H, W, 3]` and labels `[B, 1]` of the files in their order, on the GPU."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

    def training() -> Any:
        jpegs, targets = fn.readers.file(name=_READER, files=paths, labels=labels, random_shuffle=False)
        images = fn.decoders.image_random_crop(
            jpegs,
            device="mixed",
            output_type=types.RGB,
            random_area=list(AREA),
            random_aspect_ratio=list(RATIO),
            num_attempts=ATTEMPTS,
            adjust_orientation=False,  # as the host's pipeline and the preprocessing record
        )
        images = fn.resize(
            images,
            resize_y=plan.size[0],
            resize_x=plan.size[1],
            interp_type=types.INTERP_LINEAR,
            antialias=True,
        )
        images = fn.flip(images, horizontal=fn.random.coin_flip(probability=0.5))
        return images, targets.gpu()

    index = device.index if device.index is not None else torch.cuda.current_device()
    make: Any = pipeline_def(training)
    pipeline = make(batch_size=plan.batch_size, num_threads=plan.threads, device_id=index, seed=plan.seed)
    pipeline.build()
    batches = DALIGenericIterator(
        [pipeline], ["images", "labels"], reader_name=_READER, last_batch_policy=LastBatchPolicy.DROP
    )
    for (batch,) in batches:
        yield batch["images"], batch["labels"]


__all__ = ["DaliDecoded", "package", "require"]
