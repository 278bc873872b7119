"""The channel graph of a network: its groups, what is protected, and the plans that can be made."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from compress.core.errors import CompressError
from compress.core.spec import Costs
from compress.graph.classes import Classes, find_channels, find_classes
from compress.graph.context import Dense, Mismatch, static_shape
from compress.graph.groups import ChannelGroup, Protected, find_groups, find_protected
from compress.graph.labels import NONE, Lab
from compress.graph.narrow import Narrow
from compress.graph.ties import Knob, find_knobs
from compress.graph.trace import as_inputs, dense_pass, export_program, folds_of, parameter_names, walk
from compress.planning.plan import FOLD, Criterion, Kept, SlicePlan

if TYPE_CHECKING:
    from compress.cost import CostModel


class ChannelGraph:
    """Which channels of a network can be cut, and how.

    Made by `trace`. The network is only read.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...], free_pads: bool) -> None:
        self.model = model
        self.inputs = inputs
        self.free_pads = free_pads
        self.program: ExportedProgram = export_program(model, inputs)
        self._folds = folds_of(self.program)
        self._dense, self._values = dense_pass(self.program, free_pads, self._folds)
        self._refresh()
        self._rehearse()

    def _refresh(self) -> None:
        """Groups from the facts; cells that no smaller numbers fit are protected."""
        self._divide()
        while stuck := [k for k in self.knobs if not k.uniform and k.solve(0.0) in (None, k.sizes)]:
            for knob in stuck:
                for g, c in knob.cells:
                    labels = np.flatnonzero(np.isin(self._classes.root, self.groups[g].cells[c]))
                    self._dense.kept.append((labels, "equally many channels cannot be kept in each part"))
            self._divide()

    def _divide(self) -> None:
        self._classes = find_classes(self._dense)
        self._channels = find_channels(self._dense) if self._dense.blocks else self._classes.root
        self.__dict__.pop("cost", None)
        self.groups: tuple[ChannelGroup, ...] = tuple(find_groups(self._dense, self._classes))
        self.knobs: tuple[Knob, ...] = find_knobs(self.groups, self._classes)
        self.protected: tuple[Protected, ...] = tuple(find_protected(self._dense, self._classes))

    def _rehearse(self) -> None:
        """Cut half of every group once, and protect what the narrow network cannot follow."""
        criterion: Criterion = "window" if self.free_pads else "random"
        self.plan(keep=0.5, criterion=criterion, _check=False)

    @property
    def classes(self) -> Classes:
        """The channels, as classes of labels."""
        return self._classes

    @property
    def facts(self) -> Dense:
        """What the first pass found."""
        return self._dense

    @property
    def values(self) -> dict[Node, Any]:
        """The labelled value of each node of `program`."""
        return self._values

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the example inputs."""
        return tuple(tuple(x.shape) for x in self.inputs if isinstance(x, Tensor))

    @cached_property
    def cost(self) -> CostModel:
        """MACs and parameters as functions of what is kept."""
        from compress.cost import CostModel

        names = parameter_names(self.program)
        parameters = {
            names[node.name]: static_shape(node)
            for node in self.program.graph.nodes
            if node.op == "placeholder" and node.name in self.program.graph_signature.inputs_to_parameters
        }
        return CostModel(self._dense, self._classes, parameters)

    @cached_property
    def _adjusting(self) -> frozenset[str]:
        """Nodes of convolution modules: slicing sets their group count, so nothing is baked in."""
        modules = {
            f"{name}.weight"
            for name, m in self.model.named_modules(remove_duplicate=False)
            if isinstance(m, nn.modules.conv._ConvNd)
        }
        return frozenset(node for weight, node in self.cost.layers if weight in modules)

    @property
    def costs(self) -> Costs:
        """Costs of the dense network."""
        return self.cost.costs(np.ones(self._classes.count, dtype=np.bool_))

    def group(self, name: str) -> ChannelGroup:
        """The group of that name.

        Raises:
            KeyError: no such group.
        """
        for g in self.groups:
            if g.name == name:
                return g
        raise KeyError(name)

    def mixing_weights(self) -> list[str]:
        """Weights whose rows `[outputs, inputs, ...]` all read the same inputs and make free channels.

        Convolutions and linear layers, but not depthwise, grouped or transposed convolutions.
        """
        out = []
        for term in self._dense.terms:
            real = term.outputs[term.outputs != NONE]
            if term.groups != 1 or not real.size or not self._dense.registry.has(term.weight, 0):
                continue
            rows = real[0] == self._dense.registry.start(term.weight, 0)
            if rows and self._classes.free[self._classes.root[real]].any() and term.weight not in out:
                out.append(term.weight)
        return out

    def plan(
        self,
        keep: float | Mapping[str, float | int | Sequence[int]] | None = None,
        *,
        macs: float | None = None,
        params: float | None = None,
        align: int = 1,
        min_width: int = 1,
        criterion: Criterion = "l1",
        seed: int = 0,
        whole: Collection[str] = (),
        _check: bool = True,
    ) -> SlicePlan:
        """Choose what to keep; exactly one of `keep`, `macs` and `params`.

        Args:
            keep: a ratio for every group; or, by group name or pattern (`"layer1.*"`), a ratio (float), a
                width (int) or the indices to keep (groups not named stay whole).
            macs, params: fraction of the dense network's cost (at most 1) or an absolute number (above 1),
                met by one ratio for all groups and single channels for the rest.
            align: widths are multiples of this where the group is wide enough.
            min_width: no group becomes narrower (unless it is already).
            criterion: which channels stay. seed: for `random`.
            whole: names of groups that stay whole whatever the ratio or the target.

        Raises:
            CompressError: (exit 2) unknown group, ratio out of range, target out of reach; with the
                smallest reachable value.
        """
        from compress.planning.choose import choose

        while True:
            mask = choose(self, keep, macs, params, align, min_width, criterion, seed, whole)
            try:
                return self._cut(mask, check=_check)
            except Mismatch as problem:
                if isinstance(keep, Mapping) and any(isinstance(v, Sequence) for v in keep.values()):
                    raise CompressError(
                        f"these channels cannot be cut exactly at {problem.node.name}: {problem.why}",
                        hint="give ratios or widths, so that the channels can be chosen",
                        code="plan-inexact",
                    ) from problem
                self._protect_node(problem)

    def smallest(self) -> NDArray[np.bool_]:
        """The mask of the narrowest network that can be planned, bool `[classes]`."""
        from compress.planning.choose import narrowest

        return narrowest(self)

    def _protect_node(self, problem: Mismatch) -> None:
        """Keep every channel at a node that a narrow network cannot follow, or at the nearest before it."""
        why = f"cannot be cut exactly at {problem.node.name}: {problem.why}"
        before = int(self._classes.free.sum())
        seen, front = {problem.node}, [problem.node, *problem.node.all_input_nodes]
        while front and int(self._classes.free.sum()) == before:
            for node in front:
                for lab in _flat(self._values[node]):
                    self._dense.protect(lab.labels(), why)
            seen |= set(front)
            front = [n for node in front for n in node.all_input_nodes if n not in seen]
            self._refresh()
        if int(self._classes.free.sum()) == before:
            self._dense.kept.append((np.arange(self._dense.registry.size), why))
            self._refresh()

    def _cut(self, mask: NDArray[np.bool_], check: bool) -> SlicePlan:
        narrow = Narrow(
            self._dense.registry, self._dense, self._values, self._channels, mask[self._classes.root]
        )
        if not mask.all():
            self._check_ties(mask)
            walk(self.program, narrow, self._folds)
        kept = narrow.kept()
        rewrites = self._folded(
            kept, {name: [str(target), plain(args)] for name, (target, args) in narrow.rewrites.items()}
        )
        widths = {g.name: (int(mask[g.classes].sum()), g.width) for g in self.groups}
        plan = SlicePlan(
            kept=kept,
            masked=self._masked(mask),
            widths=widths,
            dense=self.costs,
            narrow=self.cost.costs(mask),
            rewrites=rewrites if rewrites.keys() - self._adjusting else {},
            input_shapes=self.input_shapes,
            free_pads=self.free_pads,
        )
        if check:
            from compress.planning.own_code import settle

            plan = settle(self, plan)
        return plan

    def _folded(self, kept: Kept, rewrites: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The rewrites with those weights folded whose computation does not survive the cut."""
        out = dict(rewrites)
        for fold in self._folds.values():
            if any(dim in kept.get(fold.name, {}) for dim in fold.mixed):
                for node in fold.inner:
                    out.pop(node.name, None)
                out[fold.root.name] = [FOLD, [fold.name]]
        return out

    def _check_ties(self, mask: NDArray[np.bool_]) -> None:
        for tie in self._classes.ties:
            counts = {int((mask[row] | (row == NONE)).sum()) for row in tie.rows}
            if len(counts) > 1:
                node = next(n for n in self.program.graph.nodes if n.name == tie.node)
                raise Mismatch(node, "equally many channels cannot be kept in each part")

    def _masked(self, mask: NDArray[np.bool_]) -> dict[str, dict[int, list[Any]]]:
        """Rows of layers, biases and norm parameters that are zero in the masked dense network."""
        consumed = np.zeros(self._dense.registry.size, dtype=bool)
        for labels in self._dense.consumed:
            consumed[labels[labels != NONE]] = True
        out: dict[str, dict[int, list[Any]]] = {}
        for name, dim, start, width in self._dense.registry.dims():
            gone = ~mask[self._classes.root[start : start + width]] & ~consumed[start : start + width]
            if gone.any():
                out.setdefault(name, {})[dim] = [int(i) for i in np.flatnonzero(gone)]
        return out


def plain(args: Any) -> Any:
    """Node arguments as JSON: other nodes by name."""
    if isinstance(args, Node):
        return {"node": args.name}
    if isinstance(args, (list, tuple)):
        return [plain(a) for a in args]
    return args if isinstance(args, (int, float, str, bool, type(None))) else str(args)


def _flat(value: Any) -> list[Lab]:
    if isinstance(value, Lab):
        return [value]
    return [v for v in value if isinstance(v, Lab)] if isinstance(value, (list, tuple)) else []


def trace(
    model: nn.Module, example_inputs: Tensor | Sequence[Any], *, free_pads: bool = False
) -> ChannelGraph:
    """Read a network's channel graph through `torch.export`.

    Args:
        model: any network that `torch.export` accepts; it is not changed.
        example_inputs: one batch (two images or more, so that the batch size stays free).
        free_pads: let the two sides of a zero-padded shortcut keep unrelated channels, as the CIFAR ResNets
            of the DCFF paper do; plans then keep the middle channels (`criterion="window"`).

    Raises:
        CompressError: (exit 4) the model cannot be exported.
    """
    return ChannelGraph(model, as_inputs(example_inputs), free_pads)
