"""Training batches decoded and cropped on an NVIDIA GPU by DALI (``--dali``, an optional extra).

The images and their order are those of the host's pipeline. DALI draws the crops from a seed of (seed, epoch,
rank): reproducible, but different from the host's crops. Test images are decoded on the host, whose resizing
is the one that the preprocessing record defines for a deployed network.

Reference: DALI 2, fn.readers.file, fn.decoders.image_random_crop, fn.resize and
plugin.pytorch.DALIGenericIterator.
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
from compress.data.decoded import Decoded, Transforms
from compress.data.pixels import make_normalizer

_READER = "files"


class Files(Protocol):
    """Labeled image files by index; extends `compress.data.decoded.Images`."""

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
    """Return the name of the DALI package for the CUDA version of the installed torch."""
    major = (torch.version.cuda or "13").partition(".")[0]
    return f"nvidia-dali-cuda{major}0"


def require() -> None:
    """Raise unless DALI is installed.

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
        transforms: Transforms,
        info: DataInfo,
        workers: int,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(train, test, transforms, info, workers, device)
        self._files = train

    def train_batches(
        self, *, epoch: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> Batches:
        """See `ImageData.train_batches`."""
        indices = order.train_batches(
            len(self._files), batch_size=batch_size, seed=seed, epoch=epoch, rank=rank, world=world
        )
        settings = PipelineSettings(
            batch_size=len(indices[0]),
            size=self._info.preprocess.input_size[1:],
            threads=max(self._count, 1),
            seed=order.stable_seed("dali", seed, epoch, rank) % 2**31,
        )
        return _DaliBatches(self._files, indices, settings, self._device, self._floats)

    def _floats(self) -> Callable[[Tensor], Tensor]:
        return make_normalizer(self._info.preprocess, self._device)


@dataclass(frozen=True)
class PipelineSettings:
    """Settings of the pipeline of one epoch.

    Attributes:
        batch_size: images in a batch.
        size: height and width of an image.
        threads: threads on the host that read files and decode in part.
        seed: of the crops and flips.
    """

    batch_size: int
    size: tuple[int, int]
    threads: int
    seed: int


@dataclass(frozen=True)
class _DaliBatches:
    """One epoch; every iteration builds a new pipeline, so that it starts with the same seed."""

    files: Files
    indices: Sequence[Tensor]
    settings: PipelineSettings
    device: torch.device
    floats: Callable[[], Callable[[Tensor], Tensor]]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        if self.device.type != "cuda":
            raise CompressError(
                f"--dali decodes on an NVIDIA GPU and the device is {self.device.type!r}",
                hint="leave out --dali, or give --device cuda",
                code="no-device",
                exit=Exit.MISSING,
            )
        to_floats = self.floats()
        indices = [index for batch in self.indices for index in batch.tolist()]
        paths = [self.files.path(index) for index in indices]
        labels = [self.files.label(index) for index in indices]
        try:
            for images, targets in _run(paths, labels, self.settings, self.device):
                # [H, W, C] in memory is channels_last
                yield to_floats(images.permute(0, 3, 1, 2)), targets.view(-1).to(torch.int64)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
                raise
            raise CompressError(
                f"DALI cannot decode a batch: {' '.join(str(error).split())[:400]}",
                hint="run without --dali to see which image cannot be decoded",
                code="data-unreadable",
                exit=Exit.MISSING,
            ) from error


def _run(
    paths: list[str], labels: list[int], settings: PipelineSettings, device: torch.device
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
            adjust_orientation=False,  # as in the host's pipeline and the preprocessing record
        )
        images = fn.resize(
            images,
            resize_y=settings.size[0],
            resize_x=settings.size[1],
            interp_type=types.INTERP_LINEAR,
            antialias=True,
        )
        images = fn.flip(images, horizontal=fn.random.coin_flip(probability=0.5))
        return images, targets.gpu()

    index = device.index if device.index is not None else torch.cuda.current_device()
    make_pipeline: Any = pipeline_def(training)
    pipeline = make_pipeline(
        batch_size=settings.batch_size, num_threads=settings.threads, device_id=index, seed=settings.seed
    )
    pipeline.build()
    batches = DALIGenericIterator(
        [pipeline], ["images", "labels"], reader_name=_READER, last_batch_policy=LastBatchPolicy.DROP
    )
    for (batch,) in batches:
        yield batch["images"], batch["labels"]


__all__ = ["DaliDecoded", "package", "require"]
