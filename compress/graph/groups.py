"""Channel groups by name, and protected layers with the reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from compress.graph.channels import Channels
from compress.graph.dense_pass import DensePass
from compress.graph.labels import NONE, Ints


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are cut by the same rule and may be cut one by one.

    Attributes:
        name: the first layer that makes these channels.
        width: how many channels can be kept or dropped; of channels that go together, how many such sets.
        members: `(parameter or buffer, dimension)` pairs that are cut with them.
        producers: the weights whose rows make them.
        parts: the channels, in parts of which equally many stay (one part unless a grouped convolution, a
            shuffle or an even split needs several).
    """

    name: str
    width: int
    members: tuple[tuple[str, int], ...]
    producers: tuple[str, ...]
    parts: tuple[Ints, ...] = field(repr=False)

    @property
    def channels(self) -> Ints:
        """All channels of the group, in channel order."""
        return np.sort(np.concatenate(self.parts))


@dataclass(frozen=True)
class Protected:
    """Channels that are never cut: the layer that makes them, how many, and why."""

    name: str
    width: int
    why: str


def find_groups(dense: DensePass, channels: Channels) -> list[ChannelGroup]:
    """Channels with the same members form a group; count ties divide it into parts."""
    rng = np.random.default_rng(0)
    signature, part = np.zeros((2, channels.count), dtype=np.uint64)
    dims = dense.registry.dims()
    for _, _, start, width in dims:
        root = channels.of_label[start : start + width]
        np.add.at(signature, root, rng.integers(1, 2**63, dtype=np.uint64))
    for tie in channels.ties:
        for row in tie.rows:
            np.add.at(part, row[row != NONE], rng.integers(1, 2**63, dtype=np.uint64))
    names = _producers(dense)
    order: dict[int, list[int]] = {}
    first: dict[int, list[str]] = {}
    for labels, name in names:
        for c in dict.fromkeys(channels.of_label[labels[labels != NONE]].tolist()):
            if channels.removable[c]:
                key = int(signature[c])
                bucket = order.setdefault(key, [])
                if c not in bucket[-1:] and c not in set(bucket):
                    bucket.append(c)
                made = first.setdefault(key, [])
                if name not in made:
                    made.append(name)
    where: dict[int, list[tuple[str, int]]] = {members[0]: [] for members in order.values()}
    for parameter, dim, start, width in dims:
        for c in set(channels.of_label[start : start + width].tolist()) & where.keys():
            where[c].append((parameter, dim))
    groups: list[ChannelGroup] = []
    used: set[str] = set()
    for key, members in order.items():
        base = layer_name(first[key][0])
        name = base if base not in used else f"{base}#{sum(u.split('#')[0] == base for u in used) + 1}"
        used.add(name)
        parts: dict[int, list[int]] = {}
        for c in members:
            parts.setdefault(int(part[c]), []).append(c)
        groups.append(
            ChannelGroup(
                name,
                len(members),
                tuple(where[members[0]]),
                tuple(first[key]),
                tuple(np.array(c, dtype=np.int64) for c in parts.values()),
            )
        )
    return groups


def layer_name(weight: str) -> str:
    """A layer's name from its weight's, parametrized or not."""
    return re.sub(r"(\.weight|\.parametrizations\.weight\.original\d*)$", "", weight)


def _producers(dense: DensePass) -> list[tuple[Ints, str]]:
    """The output labels of every layer, in the order of the graph, with its weight's name."""
    starts = sorted((start, start + width, name) for name, _, start, width in dense.registry.dims())
    begins = np.array([s[0] for s in starts])
    out = []
    for labels in dense.output_labels:
        real = labels[labels != NONE]
        if real.size:
            start, end, name = starts[int(np.searchsorted(begins, real[0], side="right")) - 1]
            assert start <= real[0] < end
            out.append((labels, name))
    return out


def find_protected(dense: DensePass, channels: Channels) -> list[Protected]:
    """Layers some of whose outputs are never cut, with the reasons."""
    out: dict[Protected, None] = {}
    for labels, name in _producers(dense):
        reasons: dict[str, int] = {}
        for c in channels.of_label[labels[labels != NONE]]:
            if not channels.removable[c]:
                why = channels.reasons.get(int(c), "")
                reasons[why] = reasons.get(why, 0) + 1
        out.update((Protected(layer_name(name), n, why), None) for why, n in reasons.items())
    return list(out)
