"""``digits``: 1,797 handwritten digits, 8x8 gray, included in scikit-learn (UCI, 1998).

The file is read and split here, exactly as `sklearn.datasets.load_digits` and
`sklearn.model_selection.train_test_split` do: importing scikit-learn takes a second.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compress.core.errors import CompressError, Exit
from compress.data.augment import Augmentation
from compress.data.base import ImageData
from compress.data.memory import Arrays, in_memory
from compress.data.registry import DATASETS, DataRequest

_TEST_SIZE = 360
_SPLIT_SEED = 0

Ints = NDArray[np.int64]


@DATASETS.register("digits")
def digits(request: DataRequest) -> ImageData:
    """Load the digits: 1,437 for training and 360 for test, always the same stratified split.

    Without an input size they are gray and enlarged to `[1, 32, 32]`.

    Raises:
        CompressError: (exit 3) ``missing-package``: scikit-learn is not installed.
    """
    rows = _read_rows()
    gray = np.rint(rows[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = rows[:, -1].astype(np.int64)
    train, test = _stratified_split(labels, _TEST_SIZE, _SPLIT_SEED)
    arrays = Arrays(*(torch.from_numpy(a) for a in (gray[train], labels[train], gray[test], labels[test])))
    return in_memory(
        request.name,
        arrays,
        [str(d) for d in range(10)],
        augmentation=Augmentation(pad=2, flip=False),
        input_size=request.input_size or (1, 32, 32),
    )


def _read_rows() -> NDArray[np.float64]:
    """Return one row per image, `[1797, 65]`: 64 pixels from 0 to 16, then the label."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise CompressError(
            "the data set 'digits' needs the package scikit-learn",
            hint="pip install scikit-learn",
            code="missing-package",
            exit=Exit.MISSING,
        )
    rows: NDArray[np.float64] = np.loadtxt(
        Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=","
    )
    return rows


def _stratified_split(labels: Ints, test_size: int, seed: int) -> tuple[Ints, Ints]:
    """Return the indices of the training and of the test images, each in random order.

    Every class has the same share of both parts, up to one image.
    """
    random = np.random.RandomState(seed)
    counts = np.bincount(labels)
    train_counts = _divide_by_class(counts, len(labels) - test_size, random)
    test_counts = _divide_by_class(counts - train_counts, test_size, random)
    train: list[Ints] = []
    test: list[Ints] = []
    for label, n_train in enumerate(train_counts):
        members = np.flatnonzero(labels == label)[random.permutation(counts[label])]
        train.append(members[:n_train])
        test.append(members[n_train : n_train + test_counts[label]])
    return random.permutation(np.concatenate(train)), random.permutation(np.concatenate(test))


def _divide_by_class(counts: Ints, total: int, random: np.random.RandomState) -> Ints:
    """Return how many of `total` images each class gets, in proportion to its count.

    Images that remain after rounding down go to the largest remainders; ties are drawn.
    """
    shares = counts / counts.sum() * total
    out: Ints = np.floor(shares).astype(np.int64)
    remainders = shares - out
    for remainder in np.unique(remainders)[::-1]:
        left = total - int(out.sum())
        if left == 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        out[random.choice(tied, size=min(len(tied), left), replace=False)] += 1
    return out
