"""Speed of ``folder:`` data: training batches against torchvision's ordinary pipeline, in pairs.

`python -m benchmarks.folder_speed [--images 512 --batch 64 --workers 2 --pairs 15]`. Both sides read the same
generated JPEG files (500x375, about 110 kB) with the same number of persistent worker processes and deliver
normalized float batches of 224x224 on the CPU. The ordinary side is ``ImageFolder`` with RandomResizedCrop,
RandomHorizontalFlip, ToTensor and Normalize in a DataLoader. Epochs alternate (ABBA), with an A/A
comparison.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common import RESULTS, provenance, write_result
from benchmarks.image_folders import image_folder
from compress import data
from compress.bench.protocol import stats
from compress.data.decoded import IMAGENET_MEAN, IMAGENET_STD

SIDE = 224
Epoch = Callable[[], Iterable[Any]]


def folder_epochs(folder: Path, batch: int, workers: int) -> Epoch:
    """Return a function that starts a training epoch of ``folder:DIR``."""
    images = data.load(f"folder:{folder}", (3, SIDE, SIDE), workers=workers)
    epochs = iter(range(10**6))
    return lambda: images.train_batches(epoch=next(epochs), batch_size=batch, seed=0)


def torchvision_epochs(folder: Path, batch: int, workers: int) -> Epoch:
    """Return a function that starts a training epoch as in torchvision's reference."""
    from torchvision import datasets, transforms

    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(str(folder / "train"), view),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: loader


def time_epoch(epoch: Epoch) -> float:
    """Return the seconds of one epoch."""
    began = time.perf_counter()
    for images, _ in epoch():
        assert images.dtype == torch.float32
    return time.perf_counter() - began


def compare(a: Epoch, b: Epoch, pairs: int) -> tuple[list[float], list[float]]:
    """Return the seconds of `pairs` epochs of each side; the order is reversed for every other pair."""
    for epoch in (a, b):
        time_epoch(epoch)  # starts the processes and fills the file system's cache
    taken: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            taken[side].append(time_epoch((a, b)[side]))
    return taken


def compare_pipelines(folder: Path, images: int, batch: int, workers: int, pairs: int) -> dict[str, Any]:
    """Images a second of both sides, their ratio, and that of the ordinary side to itself."""
    used = images // batch * batch
    plain, again = compare(
        torchvision_epochs(folder, batch, workers), torchvision_epochs(folder, batch, workers), pairs
    )
    base, fast = compare(
        torchvision_epochs(folder, batch, workers), folder_epochs(folder, batch, workers), pairs
    )
    return {
        "workers": workers,
        "ordinary_images_per_second": used / float(np.median(base)),
        "folder_images_per_second": used / float(np.median(fast)),
        "speedup": _ratio(base, fast),
        "same_against_same": _ratio(plain, again),
    }


def _ratio(base: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    interval = stats.interval(np.log(np.array(base) / np.array(other)))
    values = {"ratio": interval.median, "low": interval.low, "high": interval.high}
    return {**{name: math.exp(value) for name, value in values.items()}, "pairs": interval.pairs}


def render_table(record: dict[str, Any]) -> Table:
    """Return the record as a table."""
    table = Table("workers", "torchvision", "folder:", "faster by", "same vs same",
                  title=f"Training images per second, batch {record['batch']}, "
                  f"{record['kilobytes']:.0f} kB JPEG to {SIDE}x{SIDE}")  # fmt: skip
    for run in record["runs"]:
        table.add_row(
            str(run["workers"]),
            f"{run['ordinary_images_per_second']:,.0f}",
            f"{run['folder_images_per_second']:,.0f}",
            _text(run["speedup"]),
            _text(run["same_against_same"]),
        )
    return table


def _text(ratio: dict[str, float]) -> str:
    return f"{ratio['ratio']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", default="2", help="numbers of worker processes, one run each")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = image_folder(Path(name), train=options.images, val=2)
        sizes = [path.stat().st_size for path in folder.glob("train/*/*.jpg")]
        record = {
            **provenance("benchmarks.folder_speed", None if arguments is None else list(arguments)),
            "images": options.images,
            "batch": options.batch,
            "kilobytes": float(np.mean(sizes)) / 1e3,
            "runs": [
                compare_pipelines(folder, options.images, options.batch, int(workers), options.pairs)
                for workers in options.workers.split(",")
            ],
        }
    Console().print(render_table(record))
    write_result("folder_speed", record, options.out)


if __name__ == "__main__":
    main()
