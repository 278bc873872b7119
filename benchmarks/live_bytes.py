"""Memory of tensor operations, counted by the tensors that they create."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Dispatch mode that counts the bytes of live tensors created while it is active.

    Scratch memory inside an operation is not counted, and neither are tensors that existed before.

    Args:
        inputs: tensors that are not counted.

    Attributes:
        peak: largest number of live bytes after any operation. largest: bytes of the largest single tensor.
    """

    def __init__(self, inputs: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.peak = self.largest = 0
        self._inputs = {tensor.untyped_storage()._cdata for tensor in inputs}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and count its results."""
        out = func(*args, **(kwargs or {}))
        self._live = {key: item for key, item in self._live.items() if not item[0].expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._inputs:
                    self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                    self.largest = max(self.largest, storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return out
