"""Break the lost time of a compact network down into rows, and select the layers to time alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compress.bench.explain.causes import Evidence, Limits, attribute_loss
from compress.bench.explain.loss import RowCost, row_loss
from compress.bench.explain.microbenchmarks import LayerSpec, LayerTiming, layer_spec
from compress.bench.explain.onnx_graph import read_onnx_graph
from compress.bench.explain.overhead import Overhead
from compress.bench.explain.paired_profile import PairedProfile
from compress.bench.explain.record import (
    Cause,
    LossAnalysis,
    Part,
    Probe,
    ProfileRecord,
    RooflineRecord,
    Row,
    SideCost,
)
from compress.bench.explain.robust_mean import robust_mean, robust_mean_half_width
from compress.bench.explain.roofline import Roofline
from compress.bench.explain.row_mapping import ProfiledRow, group_nodes, layers_without_nodes
from compress.bench.results import record as results

MAX_TIMED_LAYERS = 24
"""Most layers of different shapes that are timed alone; those with the largest losses first."""

MIN_LOSS_SHARE = 0.005
"""A layer is timed alone if it lost at least this share of the compact network's time."""

CALL = "the call itself"
REMAINDER = "remainder"


@dataclass(frozen=True)
class _MeasuredRow:
    """A row without its causes; times in milliseconds, `profiled` and `spreads` are (dense, compact)."""

    name: str
    kind: str
    cost: RowCost
    spreads: tuple[float, float]
    profiled: tuple[ProfiledRow | None, ProfiledRow | None]

    @property
    def layer_name(self) -> str:
        """Name of the layer; for other work, such as a pool, of the layer before it."""
        return self.name.partition(" after ")[2] if self.kind == "other" else self.name


class LossBreakdown:
    """Rows of both networks with their times, scaled to the measured total, and their losses.

    Args:
        dense_onnx, compact_onnx: the networks as ONNX files.
        batch: images of an inference.
        profile: times and profiles of both networks.
        overhead: fixed costs of the back end.
        roofline: limits of the machine.
    """

    def __init__(
        self,
        dense_onnx: Path,
        compact_onnx: Path,
        batch: int,
        profile: PairedProfile,
        overhead: Overhead,
        roofline: Roofline,
    ) -> None:
        self._batch, self._profile, self._overhead, self._roofline = batch, profile, overhead, roofline
        self._graphs = read_onnx_graph(dense_onnx, batch), read_onnx_graph(compact_onnx, batch)
        dense_macs, compact_macs = (
            sum(layer.macs for layer in graph.layers.values()) for graph in self._graphs
        )
        self.reduction = dense_macs / max(compact_macs, 1)
        self._profiled = (
            group_nodes(self._graphs[0], profile.dense_profile),
            group_nodes(self._graphs[1], profile.compact_profile),
        )
        self.compact_ms = float(np.median(profile.compact)) * 1e-6
        self.dense_ms = self.compact_ms * math.exp(profile.speedup.median)
        call_ms = overhead.call * 1e-6
        unscaled = sum(self._unscaled_ms(row)[0] for side in self._profiled for row in side.values())
        self._scale = (self.dense_ms + self.compact_ms) / (unscaled + 2 * call_ms)
        self._rows = self._measured_rows(call_ms * self._scale)

    def layers_to_time(self) -> dict[str, tuple[LayerSpec, LayerSpec]]:
        """Return the layers (compact, dense) with a loss worth an experiment, the largest losses first."""
        min_loss = MIN_LOSS_SHARE * self.compact_ms
        lost = {row.name: self._own_loss(row) for row in self._rows if row.kind == "layer"}
        noise = {row.name: self._noise_ms(row) for row in self._rows}
        for row in self._rows:  # a pool is timed with the layer before it
            if row.kind == "other" and row.layer_name in lost:
                lost[row.layer_name] = max(lost[row.layer_name], self._own_loss(row))
        selected: dict[str, tuple[LayerSpec, LayerSpec]] = {}
        for name in sorted(lost, key=lambda name: -lost[name]):
            if lost[name] <= min_loss:
                break
            if lost[name] <= noise[name]:
                continue
            dense, compact = (layer_spec(graph, graph.layers[name]) for graph in self._graphs)
            if dense is None or compact is None:
                continue
            pair = compact, replace(dense, followers=compact.followers)
            if pair in selected.values() or len(set(selected.values())) < MAX_TIMED_LAYERS:
                selected[name] = pair
        return selected

    def analysis(
        self,
        timings: Mapping[str, Mapping[str, LayerTiming]],
        *,
        session: dict[str, str],
        timed: str,
        source: str,
    ) -> LossAnalysis:
        """Return the rows with their causes, and the totals.

        Args:
            timings: of the layers that `layers_to_time` returned, by layer and width.
            session, timed: see `LossAnalysis`.
            source: where the profiled times come from.
        """
        rows = self._rows_with_causes(timings)
        speedup = results.ratio_record(self._profile.speedup)
        by_cause: dict[Cause, float] = {}
        for row in rows:
            for part in row.parts:
                by_cause[part.cause] = by_cause.get(part.cause, 0.0) + part.ms
        remainder = rows[-1].loss_ms
        noise = self._remainder_noise_ms()
        limit = self._roofline
        return LossAnalysis(
            session=session,
            timed=timed,
            dense_ms=self.dense_ms,
            compact_ms=self.compact_ms,
            speedup=speedup,
            floor=self._profile.same.reach,
            mac_reduction=self.reduction,
            efficiency=speedup.ratio / self.reduction,
            gap_ms=self.compact_ms - self.dense_ms / self.reduction,
            gap_noise_ms=self._gap_noise_ms(),
            rows=tuple(rows),
            causes=tuple(
                Part(cause=cause, ms=ms) for cause, ms in sorted(by_cause.items(), key=lambda item: -item[1])
            ),
            remainder_ms=remainder,
            remainder_noise_ms=noise,
            adds_up=abs(remainder) <= noise,
            roofline=RooflineRecord(
                macs_per_s=limit.macs_per_s, bytes_per_s=limit.bytes_per_s, ridge=limit.ridge, how=limit.how
            ),
            profile=self._profile_record(source),
            others_load=self._profile.others_load,
        )

    # --- times ------------------------------------------------------------------------------------------

    def _unscaled_ms(self, row: ProfiledRow | None) -> tuple[float, float]:
        """Return the corrected time of a row and the half-width of its interval, in milliseconds."""
        if row is None:
            return 0.0, 0.0
        times = np.maximum(row.times_ns + self._overhead.correction * len(row.nodes), 0.0)
        return robust_mean(times) * 1e-6, robust_mean_half_width(times) * 1e-6

    def _measured_rows(self, call_ms: float) -> list[_MeasuredRow]:
        names = dict.fromkeys((*self._graphs[0].layers, *self._profiled[0], *self._profiled[1]))
        rows = []
        for name in names:
            profiled = self._profiled[0].get(name), self._profiled[1].get(name)
            (dense, dense_spread), (compact, compact_spread) = (self._unscaled_ms(side) for side in profiled)
            layers = [graph.layers.get(name) for graph in self._graphs]
            macs = [0 if layer is None else layer.macs for layer in layers]
            kind = "layer" if all(macs) else next(side.kind for side in profiled if side is not None)
            cost = RowCost(dense * self._scale, compact * self._scale, *(macs if all(macs) else (0, 0)))
            spreads = dense_spread * self._scale, compact_spread * self._scale
            rows.append(_MeasuredRow(name, kind, cost, spreads, profiled))
        rows.append(_MeasuredRow(CALL, "call", RowCost(call_ms, call_ms), (0.0, 0.0), (None, None)))
        dense_rest, compact_rest = self.dense_ms, self.compact_ms
        for row in rows:
            dense_rest, compact_rest = dense_rest - row.cost.dense, compact_rest - row.cost.compact
        rest = RowCost(dense_rest, compact_rest)
        return [*rows, _MeasuredRow(REMAINDER, "remainder", rest, (0.0, 0.0), (None, None))]

    def _own_loss(self, row: _MeasuredRow) -> float:
        return row_loss(row.cost, self.reduction).own

    # --- noise ------------------------------------------------------------------------------------------

    def _noise_ms(self, row: _MeasuredRow) -> float:
        """Return the noise of a row's loss, from the spread of its times in both networks."""
        share = row.cost.share if row.cost.share is not None else 1 / self.reduction
        return math.hypot(row.spreads[1], row.spreads[0] * share)

    def _gap_noise_ms(self) -> float:
        """Return the noise of the gap, from the interval of the speed-up or the noise floor if larger."""
        reach = max(self._profile.speedup.half_width, self._profile.same.reach)
        return self.dense_ms / self.reduction * math.expm1(reach)

    def _remainder_noise_ms(self) -> float:
        """Return the noise of the remainder, from that of the total times and of all rows."""
        return math.hypot(self._gap_noise_ms(), *(self._noise_ms(row) for row in self._rows))

    # --- records ----------------------------------------------------------------------------------------

    def _rows_with_causes(self, timings: Mapping[str, Mapping[str, LayerTiming]]) -> list[Row]:
        fastest = max(
            (row.cost.compact_macs / row.cost.compact for row in self._rows if row.cost.compact > 0),
            default=0.0,
        )
        limits = Limits(
            max(self._roofline.macs_per_s * 1e-3 / self._scale, fastest),
            self._roofline.bytes_per_s * 1e-3 / self._scale,
            self._overhead.node * 1e-6 * self._scale,
        )
        return [self._row_record(row, timings, limits) for row in self._rows]

    def _row_record(
        self, row: _MeasuredRow, timings: Mapping[str, Mapping[str, LayerTiming]], limits: Limits
    ) -> Row:
        loss = row_loss(row.cost, self.reduction)
        parts: tuple[Part, ...] = (Part(cause=Cause.REMAINDER, ms=loss.own, why="profiling and noise"),)
        better = None
        if row.kind != "remainder":
            layer = self._graphs[1].layers.get(row.name)
            nodes = [0 if side is None else len(side.nodes) for side in row.profiled]
            kernels = [() if side is None else side.kernels for side in row.profiled]
            evidence = Evidence(
                kind=row.kind,
                cost=row.cost,
                loss=loss,
                noise_ms=self._noise_ms(row),
                moved=0 if layer is None else layer.moved,
                nodes=(nodes[0], nodes[1]),
                kernels=(kernels[0], kernels[1]),
                timings=timings.get(row.layer_name, {}),
                uncut=self._uncut_widths(row.name),
            )
            parts, better = attribute_loss(evidence, limits)
        return Row(
            name=row.name,
            kind=row.kind,  # type: ignore[arg-type]
            op=self._operator(row),
            dense=self._side_cost(row, 0),
            compact=self._side_cost(row, 1),
            own_ms=loss.own,
            mix_ms=loss.mix,
            parts=parts,
            better=None if better is None else better.text,
            saves_ms=None if better is None else better.share * row.cost.compact,
            probes=tuple(
                Probe(
                    name=name,
                    inputs=timing.spec.inputs,
                    outputs=timing.spec.outputs,
                    ms=timing.ns * 1e-6,
                    macs=timing.spec.macs * self._batch,
                    spread=timing.spread,
                    kernels=timing.kernels,
                )
                for name, timing in timings.get(row.name, {}).items()
            ),
        )

    def _uncut_widths(self, name: str) -> str:
        dense, compact = (graph.layers.get(name) for graph in self._graphs)
        if dense is None or compact is None:
            return ""
        uncut = [
            f"its {width} {side} are not cut"
            for side, width, compact_width in (
                ("inputs", dense.inputs, compact.inputs),
                ("outputs", dense.outputs, compact.outputs),
            )
            if width == compact_width
        ]
        return ", ".join(uncut)

    def _operator(self, row: _MeasuredRow) -> str:
        layer = self._graphs[0].layers.get(row.name)
        if layer is None:
            ops = [node.op for side in row.profiled if side is not None for node in side.nodes]
            return ", ".join(dict.fromkeys(ops))
        kernel_size = "x".join(str(n) for n in layer.weight[2:])
        prefix = "depthwise " if layer.groups > 1 and layer.weight[1] == 1 else ""
        return f"{prefix}{layer.op} {kernel_size}".strip()

    def _side_cost(self, row: _MeasuredRow, side: int) -> SideCost:
        layer, profiled = self._graphs[side].layers.get(row.name), row.profiled[side]
        return SideCost(
            ms=row.cost.compact if side else row.cost.dense,
            spread_ms=row.spreads[side],
            inputs=None if layer is None else layer.inputs,
            outputs=None if layer is None else layer.outputs,
            macs=None if layer is None else layer.macs,
            bytes=None if layer is None else layer.moved,
            nodes=0 if profiled is None else len(profiled.nodes),
            kernels=() if profiled is None else profiled.kernels,
        )

    def _profile_record(self, source: str) -> ProfileRecord:
        profile, overhead = self._profile, self._overhead
        dense_slowed, compact_slowed = (
            float(np.median(profiled.walls_ns) / np.median(plain))
            for profiled, plain in (
                (profile.dense_profile, profile.dense),
                (profile.compact_profile, profile.compact),
            )
        )
        unseen = [
            name
            for graph, rows in zip(self._graphs, self._profiled, strict=True)
            for name in layers_without_nodes(graph, rows)
        ]
        return ProfileRecord(
            source=source,
            slowed=(dense_slowed, compact_slowed),
            node_us=overhead.node * 1e-3,
            profiled_us=overhead.profiled * 1e-3,
            call_us=overhead.call * 1e-3,
            scale=self._scale,
            unseen=tuple(dict.fromkeys(unseen)),
        )
