"""The rows of both sides of a run, what each lost, and what of it is worth an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from compress.bench.explain import probes, roofline
from compress.bench.explain.accounting import Item, loss
from compress.bench.explain.blocks import Blocks
from compress.bench.explain.causes import Evidence, Limits, causes
from compress.bench.explain.graph import Graph, read_graph
from compress.bench.explain.job import Found, Job
from compress.bench.explain.low import low, spread
from compress.bench.explain.mapping import Row as Sum
from compress.bench.explain.mapping import rows_of, unseen
from compress.bench.explain.overhead import Overhead
from compress.bench.explain.probes import Probed, Spec
from compress.bench.explain.record import Cause, Part, Probe, ProfileRecord, RooflineRecord, Row, SideCost
from compress.bench.results import record as results

MOST_PROBED = 24
"""Most layers of different shapes that are probed, those that lost most first."""

WORTH_A_PROBE = 0.005
"""A layer is probed if it lost at least this share of the compact network's time."""

CALL = "the call itself"
REMAINDER = "remainder"


@dataclass(frozen=True)
class _Line:
    """A row before its causes are known; times in milliseconds."""

    name: str
    kind: str
    item: Item
    spreads: tuple[float, float]
    sums: tuple[Sum | None, Sum | None]


class Account:
    """The rows of both sides and what they lost."""

    def __init__(self, job: Job, measured: Blocks, cost: Overhead) -> None:
        self.job, self.measured, self.cost = job, measured, cost
        batch = job.config.batch
        self.graphs = read_graph(job.dense_onnx, batch), read_graph(job.compact_onnx, batch)
        macs = [sum(layer.macs for layer in graph.layers.values()) for graph in self.graphs]
        self.reduction = macs[0] / max(macs[1], 1)
        profiles = measured.dense_profile, measured.compact_profile
        self.sums = tuple(rows_of(g, p) for g, p in zip(self.graphs, profiles, strict=True))
        self.compact_ms = float(np.median(measured.compact)) * 1e-6
        self.dense_ms = self.compact_ms * math.exp(measured.speedup.median)
        call = cost.call * 1e-6
        raw = sum(self._raw(row)[0] for side in self.sums for row in side.values()) + 2 * call
        self.scale = (self.dense_ms + self.compact_ms) / raw
        self.call_ms = call * self.scale
        self.lines = self._lines()

    def _raw(self, row: Sum | None) -> tuple[float, float]:
        """Corrected time of one side of a row, and the half-width of its interval, in milliseconds."""
        if row is None:
            return 0.0, 0.0
        times = np.maximum(row.times_ns + self.cost.correction * len(row.nodes), 0.0)
        return low(times) * 1e-6, spread(times) * 1e-6

    def _lines(self) -> list[_Line]:
        names = dict.fromkeys((*self.graphs[0].layers, *self.sums[0], *self.sums[1]))
        out = []
        for name in names:
            sums = self.sums[0].get(name), self.sums[1].get(name)
            two = [self._raw(side) for side in sums]
            layers = [graph.layers.get(name) for graph in self.graphs]
            macs = [0 if layer is None else layer.macs for layer in layers]
            kind = "layer" if all(macs) else next(side.kind for side in sums if side is not None)
            item = Item(two[0][0] * self.scale, two[1][0] * self.scale, *(macs if all(macs) else (0, 0)))
            spreads = two[0][1] * self.scale, two[1][1] * self.scale
            out.append(_Line(name, kind, item, spreads, sums))
        out.append(_Line(CALL, "call", Item(self.call_ms, self.call_ms), (0.0, 0.0), (None, None)))
        left = [self.dense_ms, self.compact_ms]
        for line in out:
            left = [left[0] - line.item.dense, left[1] - line.item.compact]
        out.append(_Line(REMAINDER, "remainder", Item(left[0], left[1]), (0.0, 0.0), (None, None)))
        return out

    def _noise(self, line: _Line) -> float:
        """Up to which a loss of a row is none: the spread of its times on both sides."""
        share = line.item.share if line.item.share is not None else 1 / self.reduction
        return math.hypot(line.spreads[1], line.spreads[0] * share)

    def worth_a_probe(self) -> dict[str, tuple[Spec, Spec]]:
        """Layers that lost something worth looking at, as they are and dense; the greatest losses first."""
        least = WORTH_A_PROBE * self.compact_ms
        lost = {line.name: loss(line.item, self.reduction).own for line in self.lines if line.kind == "layer"}
        noise = {line.name: self._noise(line) for line in self.lines}
        for line in self.lines:  # a pool is probed with the layer before it
            before = line.name.partition(" after ")[2]
            if line.kind == "other" and before in lost:
                lost[before] = max(lost[before], loss(line.item, self.reduction).own)
        out: dict[str, tuple[Spec, Spec]] = {}
        for name in sorted(lost, key=lambda name: -lost[name]):
            if lost[name] <= least:
                break
            if lost[name] <= noise[name]:
                continue
            dense, compact = (
                probes.spec_of(graph, graph.layers[name]) for graph in self.graphs
            )  # fmt: skip
            if dense is None or compact is None:
                continue
            two = compact, replace(dense, followers=compact.followers)
            if two in out.values() or len(set(out.values())) < MOST_PROBED:
                out[name] = two
        return out

    def rows(self, probed: Mapping[str, Mapping[str, Probed]], limit: roofline.Roofline) -> list[Row]:
        """Return the rows with their causes."""
        fastest = max(
            (line.item.compact_macs / line.item.compact for line in self.lines if line.item.compact > 0),
            default=0.0,
        )
        limits = Limits(
            max(limit.macs_per_s * 1e-3 / self.scale, fastest),
            limit.bytes_per_s * 1e-3 / self.scale,
            self.cost.node * 1e-6 * self.scale,
        )
        return [self._row(line, probed, limits) for line in self.lines]

    def _row(self, line: _Line, probed: Mapping[str, Mapping[str, Probed]], limits: Limits) -> Row:
        own = loss(line.item, self.reduction)
        parts: tuple[Part, ...] = (Part(cause=Cause.REMAINDER, ms=own.own, why="profiling and noise"),)
        better = None
        if line.kind == "remainder":
            pass
        else:
            name = line.name.partition(" after ")[2] if line.kind == "other" else line.name
            layer = self.graphs[1].layers.get(line.name)
            known = Evidence(
                kind=line.kind,
                item=line.item,
                loss=own,
                noise_ms=self._noise(line),
                moved=0 if layer is None else layer.moved,
                nodes=tuple(0 if side is None else len(side.nodes) for side in line.sums),  # type: ignore[arg-type]
                kernels=tuple(() if side is None else side.kernels for side in line.sums),  # type: ignore[arg-type]
                probes=probed.get(name, {}),
                uncut=self._uncut(line.name),
            )
            parts, better = causes(known, limits)
        return Row(
            name=line.name,
            kind=line.kind,  # type: ignore[arg-type]
            op=self._op(line),
            dense=self._side(line, 0),
            compact=self._side(line, 1),
            own_ms=own.own,
            mix_ms=own.mix,
            parts=parts,
            better=None if better is None else better.text,
            saves_ms=None if better is None else better.share * line.item.compact,
            probes=tuple(
                Probe(
                    name=name,
                    inputs=found.spec.inputs,
                    outputs=found.spec.outputs,
                    ms=found.ns * 1e-6,
                    macs=found.spec.macs * self.job.config.batch,
                    spread=found.spread,
                    kernels=found.kernels,
                )
                for name, found in probed.get(line.name, {}).items()
            ),
        )

    def _uncut(self, name: str) -> str:
        two = [graph.layers.get(name) for graph in self.graphs]
        dense, compact = two
        if dense is None or compact is None:
            return ""
        whole = [
            f"its {width} {what} are not cut"
            for what, width, other in (
                ("inputs", dense.inputs, compact.inputs),
                ("outputs", dense.outputs, compact.outputs),
            )
            if width == other
        ]
        return ", ".join(whole)

    def _op(self, line: _Line) -> str:
        layer = self.graphs[0].layers.get(line.name)
        if layer is None:
            kinds = [node.op for side in line.sums if side is not None for node in side.nodes]
            return ", ".join(dict.fromkeys(kinds))
        size = "x".join(str(n) for n in layer.weight[2:])
        what = "depthwise " if layer.groups > 1 and layer.weight[1] == 1 else ""
        return f"{what}{layer.op} {size}".strip()

    def _side(self, line: _Line, i: int) -> SideCost:
        layer, sums = self.graphs[i].layers.get(line.name), line.sums[i]
        return SideCost(
            ms=line.item.compact if i else line.item.dense,
            spread_ms=line.spreads[i],
            inputs=None if layer is None else layer.inputs,
            outputs=None if layer is None else layer.outputs,
            macs=None if layer is None else layer.macs,
            bytes=None if layer is None else layer.moved,
            nodes=0 if sums is None else len(sums.nodes),
            kernels=() if sums is None else sums.kernels,
        )

    def _gap_noise(self) -> float:
        """What noise can make of the gap: half the interval of the speed-up, and at least the floor."""
        wide = max(self.measured.speedup.half_width, self.measured.same.reach)
        return self.dense_ms / self.reduction * math.expm1(wide)

    def _remainder_noise(self) -> float:
        """What noise can make of the remainder: that of the whole times and that of all rows'."""
        return math.hypot(self._gap_noise(), *(self._noise(line) for line in self.lines))

    def found(
        self, rows: list[Row], limit: roofline.Roofline, *, session: dict[str, str], timed: str, source: str
    ) -> Found:
        """Return the whole."""
        measured = self.measured
        speedup, floor = results.ratio_record(measured.speedup), measured.same.reach
        total: dict[Cause, float] = {}
        for row in rows:
            for part in row.parts:
                total[part.cause] = total.get(part.cause, 0.0) + part.ms
        remainder = rows[-1].loss_ms
        noise = self._remainder_noise()
        slowed = [
            float(np.median(profile.walls_ns) / np.median(alone))
            for profile, alone in (
                (measured.dense_profile, measured.dense),
                (measured.compact_profile, measured.compact),
            )
        ]
        return Found(
            session=session,
            timed=timed,
            dense_ms=self.dense_ms,
            compact_ms=self.compact_ms,
            speedup=speedup,
            floor=floor,
            mac_reduction=self.reduction,
            efficiency=speedup.ratio / self.reduction,
            gap_ms=self.compact_ms - self.dense_ms / self.reduction,
            gap_noise_ms=self._gap_noise(),
            rows=tuple(rows),
            causes=tuple(
                Part(cause=cause, ms=ms) for cause, ms in sorted(total.items(), key=lambda two: -two[1])
            ),
            remainder_ms=remainder,
            remainder_noise_ms=noise,
            adds_up=abs(remainder) <= noise,
            roofline=RooflineRecord(
                macs_per_s=limit.macs_per_s, bytes_per_s=limit.bytes_per_s, ridge=limit.ridge, how=limit.how
            ),
            profile=ProfileRecord(
                source=source,
                slowed=(slowed[0], slowed[1]),
                node_us=self.cost.node * 1e-3,
                profiled_us=self.cost.profiled * 1e-3,
                call_us=self.cost.call * 1e-3,
                scale=self.scale,
                unseen=self._unseen(),
            ),
            others_load=measured.others_load,
        )

    def _unseen(self) -> tuple[str, ...]:
        pairs: tuple[tuple[Graph, dict[str, Sum]], ...] = tuple(zip(self.graphs, self.sums, strict=True))
        return tuple(dict.fromkeys(name for graph, side in pairs for name in unseen(graph, side)))
