"""Compress a network of your own on data sets of your own.

python examples/own_network.py --epochs 5
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import compress


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(y)) + x).relu()


class Net(nn.Module):
    """A small residual network; nothing in it is specific to compress."""

    def __init__(self, classes: int, channels: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.blocks = nn.Sequential(Block(channels), nn.MaxPool2d(2), Block(channels))
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


class Stripes(Dataset[tuple[Tensor, int]]):
    """Noisy images with stripes in one of four directions, which is the class."""

    classes = ("horizontal", "vertical", "diagonal", "antidiagonal")

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_000 + index)
        row, column = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
        label = index % 4
        position = (row, column, row + column, row - column)[label]
        stripes = ((position + index // 4) // 2 % 2).float()
        return stripes + 0.5 * torch.randn(3, 16, 16, generator=generator), label


def main(arguments: Sequence[str] | None = None) -> compress.TrainResult:
    """Train the network at half of its MACs and check the compact module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("runs/own_network"))
    options = parser.parse_args(arguments)

    torch.manual_seed(0)
    model = Net(classes=4)
    result = compress.train(
        model,
        (Stripes(options.images, seed=0), Stripes(options.images // 4, seed=1)),
        compress.DCFF(),
        target="macs=0.5",
        epochs=options.epochs,
        batch_size=64,
        lr=0.05,
        out=options.out,
    )
    print(result)

    # the result is a module of the same class with smaller layers; `model` itself is not changed
    compact = result.model
    print(
        type(compact).__name__,
        compact.blocks[0].conv1.weight.shape,
        "was",
        model.blocks[0].conv1.weight.shape,
    )

    # the run folder does not hold the code of `Net`: loading needs the dense network or a function for it
    loaded = compress.load(result.run, model=lambda: Net(classes=4))
    images = torch.stack([Stripes(8, seed=2)[index][0] for index in range(8)])
    print("loaded model computes the same:", torch.allclose(loaded(images), compact(images)))
    return result


if __name__ == "__main__":
    main()
