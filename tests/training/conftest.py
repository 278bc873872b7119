"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from training_job import Job


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster, and neighbours less disturbed, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def job() -> Job:
    """The training job as a program."""
    return Job()
