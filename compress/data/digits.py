"""``digits``: 1,797 handwritten digits, 8x8 gray, included in scikit-learn (UCI, 1998)."""

from __future__ import annotations

import torch

from compress.data.augment import Augmentation
from compress.data.base import ImageData
from compress.data.memory import Arrays, in_memory
from compress.data.registry import DATASETS, DataRequest

_TEST_SIZE = 360
_SPLIT_SEED = 0


@DATASETS.register("digits")
def digits(request: DataRequest) -> ImageData:
    """Load the digits: 1,437 for training and 360 for test, always the same stratified split.

    Without an input size they are gray and enlarged to `[1, 32, 32]`.
    """
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    gray = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    x_train, x_test, y_train, y_test = train_test_split(
        gray, bunch.target, test_size=_TEST_SIZE, stratify=bunch.target, random_state=_SPLIT_SEED
    )
    arrays = Arrays(*(torch.from_numpy(a) for a in (x_train, y_train, x_test, y_test)))
    return in_memory(
        request.name,
        arrays,
        [str(d) for d in range(10)],
        augmentation=Augmentation(pad=2, flip=False),
        input_size=request.input_size or (1, 32, 32),
    )
