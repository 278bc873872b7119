"""Latency of layers as a function of their width, from a measured table.

Runtimes compute blocks of channels, so latency falls in steps as a layer gets narrower: most widths cost as
much as the next multiple of a block, and some cost more. `compress bench RUN --staircase` measures such a
table.
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
"""Log-ratio (2%) above which one width counts as slower than another."""

HINT = "measure one with `compress bench RUN --staircase all`"


class Point(Record):
    """Measured time of one width.

    Attributes:
        width: channels.
        ratio: time over that of the full width, both as lower quartiles.
        low, high: 95% interval of the ratio.
    """

    width: int = Field(ge=1)
    ratio: float = Field(gt=0)
    low: float
    high: float


class Curve(Record):
    """Latency of a layer along one axis, with the other axis at full width.

    Attributes:
        axis: the axis that is varied.
        full_ms: time of the full width for a whole batch.
        points: widths in ascending order, up to the full width.
        rounds: number of measurements of each width.
        floor: noise floor: log-ratio by which two sessions of the full width differ.
        clock: clock of the times, of the host or the device.
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
        """Ratio above which two times count as different: the noise floor, or 2% if larger."""
        return math.exp(max(self.floor, SLOWER_BEYOND))

    def ms(self, width: int) -> float:
        """Return the milliseconds at a width, see `ratio`."""
        return self.full_ms * self.ratio(width)

    def ratio(self, width: int) -> float:
        """Return the time at a width over that of the full width, interpolated linearly.

        Below the narrowest measured width, the ratio of that width is returned.

        Raises:
            ValueError: the width is below 1 or above the full width.
        """
        if not 1 <= width <= self.full:
            raise ValueError(f"the width {width} is not between 1 and {self.full}")
        at = bisect_left(self._widths, width)
        above = self.points[at]
        if above.width == width or at == 0:
            return above.ratio
        below = self.points[at - 1]
        share = (width - below.width) / (above.width - below.width)
        return below.ratio + share * (above.ratio - below.ratio)

    def best_width(self, width: int) -> int:
        """Return the largest width that is not slower: the right edge of the step.

        The result is `width` itself or a measured width.
        """
        limit = self.ratio(width) * self.beyond
        return max([width, *(point.width for point in self.points if point.ratio <= limit)])

    @property
    def edges(self) -> tuple[int, ...]:
        """Measured widths at the right edge of a step: no larger width is as fast."""
        return tuple(point.width for point in self.points if self.best_width(point.width) == point.width)

    @cached_property
    def _widths(self) -> list[int]:
        return [point.width for point in self.points]


class Entry(Record):
    """A layer shape with its curves.

    Attributes:
        layers: names of the layers with this shape.
    """

    shape: LayerShape
    layers: tuple[str, ...]
    curves: tuple[Curve, ...]

    def curve(self, axis: Axis) -> Curve | None:
        """Return the curve along an axis, or None if it was not measured."""
        return next((curve for curve in self.curves if curve.axis == axis), None)


class LatencyTable(Record):
    """Latency of a network's layers at many widths on one back end and device.

    Attributes:
        network: name of the dense network.
        device: name of the processor or GPU.
        threads, batch: settings of the session; times are for a whole batch.
        timed: what a time includes.
        protocol: description of how it was measured.
        session: settings that the runtime reports.
        others_load: largest share of the processors that other processes used, 0 to 1.
        entries: measured layer shapes.
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
            CompressError: the file is missing, damaged, or of another version (exit MISSING).
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
        """Return the measurements of a layer shape.

        Raises:
            CompressError: it was not measured (exit MISSING).
        """
        entry = self._by_shape.get(shape)
        if entry is None:
            raise CompressError(
                f"the latency table of {self.network} on {self.backend} has no layer like {shape}",
                hint=HINT,
                code="not-measured",
                exit=Exit.MISSING,
            )
        return entry

    def latency(self, shape: LayerShape, in_width: int, out_width: int) -> float:
        """Return the estimated milliseconds of a layer with both widths reduced.

        Times are measured along one axis at a time. The axes are assumed to be independent: the estimate is
        the time of the full layer times the ratios of both axes.

        Args:
            shape: the dense layer.
            in_width, out_width: remaining channels; an axis that was not measured must be at full width.

        Raises:
            CompressError: the shape or the axis was not measured (exit MISSING).
            ValueError: the layer cannot have such a width.
        """
        entry = self.entry(shape)
        if shape.depthwise:
            return self._curve(entry, "both").ms(in_width)
        widths: Mapping[Axis, int] = {"out": out_width, "in": in_width}
        cut = {axis: width for axis, width in widths.items() if width != shape.full(axis)}
        full_ms = entry.curves[0].full_ms
        return full_ms * math.prod(self._curve(entry, axis).ratio(width) for axis, width in cut.items())

    def best_width(self, shape: LayerShape, width: int, axis: Axis | None = None) -> int:
        """Return the largest width of a layer that is not slower than `width`, see `Curve.best_width`.

        Args:
            shape: the dense layer.
            width: remaining channels.
            axis: the axis; None: the outputs, or both for a depthwise convolution.
        """
        axis = axis or ("both" if shape.depthwise else "out")
        return self._curve(self.entry(shape), axis).best_width(width)

    def _curve(self, entry: Entry, axis: Axis) -> Curve:
        curve = entry.curve(axis)
        if curve is None:
            measured = " and ".join(repr(other.axis) for other in entry.curves)
            raise CompressError(
                f"the latency table has {entry.shape} along {measured} only, not along {axis!r}",
                hint="measure it again with `compress bench RUN --staircase all`",
                code="not-measured",
                exit=Exit.MISSING,
            )
        return curve

    @cached_property
    def _by_shape(self) -> dict[LayerShape, Entry]:
        return {entry.shape: entry for entry in self.entries}
