"""Measured latency of layers at many widths, read as a function of the width.

A runtime works in blocks of channels, so latency goes down in steps as a layer gets narrower: most widths
cost what the next multiple of a block costs, and some cost more. `compress bench --staircase` measures such
a table; what plans widths reads it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from compress.core.errors import CompressError, Exit
from compress.core.machine import Machine
from compress.core.records import read_record
from compress.core.spec import Record
from compress.cost.shapes import Axis, LayerShape

TABLE_VERSION = 1
"""Version of a latency table."""

SLOWER_BEYOND = math.log(1.02)
"""Smallest log-ratio (2%) beyond which one width counts as slower than another."""

HINT = "measure one with `compress bench RUN --staircase all`"


class Point(Record):
    """One width.

    Attributes:
        width: channels.
        ratio: undisturbed time over that of the full width. low, high: its 95% interval.
    """

    width: int = Field(ge=1)
    ratio: float = Field(gt=0)
    low: float
    high: float


class Curve(Record):
    """A layer's latency along one side, the other side at its full width.

    Attributes:
        full_ms: time of the full width, of a whole batch, undisturbed.
        points: from the narrowest to the full width.
        rounds: how many times each width was measured.
        floor: log-ratio up to which the full width differs from a second session of itself.
        clock: whose time it is, the host's or the device's.
    """

    axis: Axis
    full_ms: float = Field(gt=0)
    points: tuple[Point, ...] = Field(min_length=1)
    rounds: int
    floor: float = Field(ge=0)
    clock: Literal["host", "device"] = "host"

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        widths = [point.width for point in self.points]
        if widths != sorted(set(widths)):
            raise ValueError(f"the widths of a curve must ascend, not {widths}")
        return self

    @property
    def full(self) -> int:
        """The full width."""
        return self.points[-1].width

    @property
    def beyond(self) -> float:
        """Ratio of two times beyond which they count as different: the noise floor, or 2%."""
        return math.exp(max(self.floor, SLOWER_BEYOND))

    def ms(self, width: int) -> float:
        """Milliseconds at a width, see `ratio`."""
        return self.full_ms * self.ratio(width)

    def ratio(self, width: int) -> float:
        """Time over that of the full width: measured, or on the line between the widths beside it.

        Below the narrowest width that was measured it stays that one's.

        Raises:
            ValueError: a width below 1 or above the full one.
        """
        if not 1 <= width <= self.full:
            raise ValueError(f"a width of {width} is not between 1 and {self.full}")
        at = bisect_left(self._widths, width)
        above = self.points[at]
        if above.width == width or at == 0:
            return above.ratio
        below = self.points[at - 1]
        share = (width - below.width) / (above.width - below.width)
        return below.ratio + share * (above.ratio - below.ratio)

    def best_width(self, width: int) -> int:
        """The largest width that is not slower, beyond the noise: the right edge of the step.

        Only measured widths are answered, besides `width` itself.
        """
        limit = self.ratio(width) * self.beyond
        return max([width, *(point.width for point in self.points if point.ratio <= limit)])

    @property
    def edges(self) -> tuple[int, ...]:
        """The measured widths that no larger one is as fast as: those worth choosing."""
        return tuple(point.width for point in self.points if self.best_width(point.width) == point.width)

    @cached_property
    def _widths(self) -> list[int]:
        return [point.width for point in self.points]


class Entry(Record):
    """A layer shape with its curves, and the names of the layers that have it."""

    shape: LayerShape
    layers: tuple[str, ...]
    curves: tuple[Curve, ...]

    def curve(self, axis: Axis) -> Curve | None:
        """The curve along a side, if it was measured."""
        return next((curve for curve in self.curves if curve.axis == axis), None)


class LatencyTable(Record):
    """What one back end takes for the layers of a network at many widths.

    Attributes:
        network: name of the dense network.
        device: the processor or GPU, in words.
        threads, batch: of the session; a time is that of a whole batch.
        timed: what a time contains. protocol: how it was measured.
        session: what the session ran with, in the runtime's own words.
        others_load: largest share of the processors that other processes took, 0 to 1.
    """

    schema_version: int = TABLE_VERSION
    kind: Literal["compress-latency"] = "compress-latency"
    created: str
    command: tuple[str, ...]
    network: str
    backend: str
    device: str
    threads: int
    batch: int
    timed: str
    protocol: str
    session: dict[str, str]
    machine: Machine
    versions: dict[str, str]
    others_load: float
    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a table.

        Raises:
            CompressError: (exit 3) there is none, it is damaged, or of another version.
        """
        return read_record(
            Path(path),
            cls,
            what="latency table",
            hint=HINT,
            versions=(TABLE_VERSION,),
            kind="compress-latency",
        )

    def entry(self, shape: LayerShape) -> Entry:
        """The measurements of a layer shape.

        Raises:
            CompressError: (exit 3) it was not measured.
        """
        found = self._by_shape.get(shape)
        if found is None:
            raise CompressError(
                f"the latency table of {self.network} on {self.backend} has no layer like {shape}",
                hint=HINT,
                code="not-measured",
                exit=Exit.MISSING,
            )
        return found

    def latency(self, shape: LayerShape, in_width: int, out_width: int) -> float:
        """Milliseconds of a layer, estimated for both of its widths.

        Along one side the times were measured; the two are taken to be independent of each other, so
        that the time is that of the full layer times the ratios of both sides.

        Args:
            shape: the dense layer.
            in_width, out_width: channels that are left; a side that was not measured must be whole.

        Raises:
            CompressError: (exit 3) the shape, or the side, was not measured.
            ValueError: a width that the layer cannot have.
        """
        entry = self.entry(shape)
        if shape.depthwise:
            return self._along(entry, "both").ms(in_width)
        widths: Mapping[Axis, int] = {"out": out_width, "in": in_width}
        cut = {axis: width for axis, width in widths.items() if width != shape.full(axis)}
        full_ms = entry.curves[0].full_ms
        return full_ms * math.prod(self._along(entry, axis).ratio(width) for axis, width in cut.items())

    def best_width(self, shape: LayerShape, width: int, axis: Axis | None = None) -> int:
        """The largest width of a layer that is not slower than `width`, see `Curve.best_width`.

        Args:
            shape: the dense layer.
            width: channels that are to be left.
            axis: the side; None takes the outputs, or the one of a depthwise convolution.
        """
        side: Axis = axis or ("both" if shape.depthwise else "out")
        return self._along(self.entry(shape), side).best_width(width)

    def _along(self, entry: Entry, axis: Axis) -> Curve:
        found = entry.curve(axis)
        if found is None:
            raise CompressError(
                f"the latency table has {entry.shape} along {_and(entry)} only, not along {axis!r}",
                hint="measure it again with `compress bench RUN --staircase all`",
                code="not-measured",
                exit=Exit.MISSING,
            )
        return found

    @cached_property
    def _by_shape(self) -> dict[LayerShape, Entry]:
        return {entry.shape: entry for entry in self.entries}


def _and(entry: Entry) -> str:
    return " and ".join(repr(curve.axis) for curve in entry.curves)
