"""`compress.data.from_torch`: a user's own datasets and loaders as data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from compress import data
from compress.core.errors import CompressError
from compress.core.spec import Preprocess

SIZE = (3, 8, 8)


def tensors(n: int, dtype: torch.dtype = torch.float32) -> TensorDataset:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, *SIZE), generator=generator)
    return TensorDataset(images.to(dtype), torch.arange(n) % 4)


class Noisy(Dataset[Any]):
    """Dataset that draws from the generators of torch, NumPy and Python for every image."""

    classes = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = torch.rand(()) + float(np.random.rand()) + random.random()
        return torch.full(SIZE, index) + drawn, index % 4


class Stream(IterableDataset[Any]):
    """Twelve samples without a length."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter([(torch.full(SIZE, float(i)), i % 4) for i in range(12)])


def batches(source: data.UserData, *, epoch: int = 0, batch_size: int = 6, **share: int) -> list[data.Batch]:
    return list(source.train_batches(epoch=epoch, batch_size=batch_size, seed=1, **share))


def test_a_pair_of_datasets_is_data() -> None:
    made = data.from_torch(tensors(20), tensors(10))
    assert made.info.train_size == 20 and made.info.test_size == 10
    assert made.info.classes == ("0", "1", "2", "3")
    assert made.info.preprocess.input_size == SIZE
    assert made.info.name == "torch:TensorDataset"
    images, labels = made.test_arrays()
    torch.testing.assert_close(images, tensors(10).tensors[0])
    assert labels.tolist() == tensors(10).tensors[1].tolist() and labels.dtype == torch.int64
    assert torch.cat([y for _, y in made.test_batches(batch_size=4)]).tolist() == labels.tolist()
    assert [len(x) for x, _ in batches(made)] == [6, 6, 6]
    assert made.train_samples(5, seed=0).shape == (5, *SIZE)


def test_images_of_an_epoch_depend_on_seed_and_epoch_alone() -> None:
    made = data.from_torch(Noisy(), Noisy())
    before = torch.get_rng_state()
    first, again, other = batches(made), batches(made), batches(made, epoch=1)
    assert torch.equal(torch.get_rng_state(), before)
    for (x, y), (x2, y2) in zip(first, again, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert not torch.equal(first[0][0], other[0][0])


def test_worker_processes_give_the_same_images() -> None:
    here, there = (data.from_torch(Noisy(), Noisy(), workers=n) for n in (0, 2))
    for (x, _), (x2, _) in zip(batches(here), batches(there), strict=True):
        assert torch.equal(x, x2)


def test_processes_share_the_images_of_an_epoch() -> None:
    made = data.from_torch(tensors(20), tensors(10))
    whole = torch.cat([x for x, _ in batches(made, batch_size=10)])
    parts = [torch.cat([x for x, _ in batches(made, batch_size=5, rank=r, world=2)]) for r in (0, 1)]
    assert sorted(whole.sum((1, 2, 3)).tolist()) == sorted(torch.cat(parts).sum((1, 2, 3)).tolist())


def test_uint8_images_are_normalized() -> None:
    preprocess = Preprocess(input_size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    made = data.from_torch(tensors(8, torch.uint8), tensors(8, torch.uint8), preprocess=preprocess)
    expected = (tensors(8).tensors[0] / 255 - 0.5) / 0.25
    torch.testing.assert_close(made.test_arrays()[0], expected)


def test_pillow_images_become_tensors() -> None:
    class Pictures(Dataset[Any]):
        classes = ("red", "blue")

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (8, 8), ("red", "blue")[index % 2]), index % 2

    images, labels = data.from_torch(Pictures(), Pictures()).test_arrays()
    assert images[:2, :, 0, 0].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert labels.tolist() == [0, 1, 0, 1]


def test_a_loader_gives_dataset_collate_function_and_batch_size() -> None:
    def halved(samples: list[Any]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in samples]) / 2, torch.tensor([int(y) for _, y in samples])

    loader = DataLoader(tensors(20), batch_size=5, shuffle=True, collate_fn=halved)
    made = data.from_torch(loader, DataLoader(tensors(10), batch_size=7))
    assert made.batch_size == 5
    assert [len(x) for x, _ in batches(made)] == [6, 6, 6]
    assert batches(made)[0][0].max() <= 127.5
    torch.testing.assert_close(made.test_arrays()[0], tensors(10).tensors[0])


def test_a_loader_with_its_own_sampler_keeps_its_batches() -> None:
    weights = [1.0] * 5 + [0.0] * 15
    sampler = WeightedRandomSampler(weights, num_samples=14)
    made = data.from_torch(DataLoader(tensors(20), batch_size=4, sampler=sampler), tensors(8))
    own = set(tensors(20).tensors[0][:5].sum((1, 2, 3)).tolist())
    first, again = batches(made), batches(made)
    assert [len(x) for x, _ in first] == [4, 4, 4] and len(
        made.train_batches(epoch=0, batch_size=9, seed=1)
    ) == 3
    assert {value for x, _ in first for value in x.sum((1, 2, 3)).tolist()} <= own
    assert all(torch.equal(x, x2) for (x, _), (x2, _) in zip(first, again, strict=True))
    with pytest.raises(CompressError, match="cannot be shared by several processes"):
        batches(made, rank=0, world=2)


def test_an_iterable_dataset_needs_a_length() -> None:
    with pytest.raises(CompressError, match="the train data is an IterableDataset"):
        data.from_torch(Stream(), tensors(8))
    with pytest.raises(CompressError, match="the train loader has no length"):
        data.from_torch(DataLoader(Stream(), batch_size=4), tensors(8))


def test_class_names_come_from_inside_a_subset() -> None:
    made = data.from_torch(Subset(Noisy(), range(8)), Subset(Noisy(), range(4)))
    assert made.info.classes == ("a", "b", "c", "d") and made.info.name == "torch:Noisy"


def test_the_fingerprint_depends_on_the_content() -> None:
    one, same, other = (data.from_torch(tensors(n), tensors(8)).info.fingerprint for n in (20, 20, 24))
    assert one == same != other


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (torch.zeros(SIZE), "not \\(image, label\\)"),
        ((torch.zeros(8, 8), 0), "image is \\[8, 8\\]"),
        ((torch.zeros(SIZE), 0.5), "label is torch.float"),
        ((torch.zeros(SIZE), 4), "label is 4, but there are 4 classes"),
        ((torch.zeros(3, 9, 9), 0), "image is \\[3, 9, 9\\], the first \\[3, 8, 8\\]"),
    ],
)
def test_a_wrong_sample_is_named(sample: Any, message: str) -> None:
    class Wrong(Dataset[Any]):
        classes = ("a", "b", "c", "d")

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return sample

    with pytest.raises(CompressError, match=message) as raised:
        batches(data.from_torch(Wrong(), tensors(8)))
    assert raised.value.code == "data-format" and raised.value.hint


def test_an_unknown_number_of_classes_gives_a_hint() -> None:
    class Nameless(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.zeros(SIZE), index

    with pytest.raises(CompressError, match="number of classes is unknown") as raised:
        data.from_torch(Nameless(), Nameless())
    assert "classes=NUMBER" in raised.value.hint
    assert data.from_torch(Nameless(), Nameless(), classes=4).info.num_classes == 4
