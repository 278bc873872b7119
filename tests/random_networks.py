"""Random networks of nested small blocks, for property tests.

A network is drawn as a tree of `Spec`s: a leaf transforms one tensor, a combinator combines inner blocks in
sequence, in parallel or inside a residual. Every block maps `[N, C, 8, 8]` to `[N, C', 8, 8]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Spec:
    """Description of a block.

    Attributes:
        kind: name of the block. number: selects a variant. inner: specs of the inner blocks.
    """

    kind: str
    number: int = 0
    inner: tuple[Spec, ...] = ()


class Lambda(nn.Module):
    """Module that calls `function(self, x)`, with the submodules that the function uses."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _conv(inputs: int, outputs: int, size: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


Leaf = Callable[[int, int], tuple[nn.Module, int]]
LEAVES: dict[str, Leaf] = {}


def leaf(build: Leaf) -> Leaf:
    """Register a block `build(width, number) -> (module, new width)`."""
    LEAVES[build.__name__] = build
    return build


def register_function(name: str, function: Function) -> None:
    """Register a leaf for a function that keeps the width and has no parameters."""
    LEAVES[name] = lambda width, number: (Lambda(lambda self, x: function(x)), width)


for _name, _function in {
    "relu": F.relu,
    "relu_in_place": lambda x: F.relu_(x.clone()),
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "clamped": lambda x: x.clamp(-1, 1),
    "shifted": lambda x: x + 0.3,
    "softmax": lambda x: x.softmax(1),
    "softmax_space": lambda x: x.flatten(2).softmax(-1).view_as(x),
    "max_pool": lambda x: F.max_pool2d(x, 3, 1, 1),
    "average_pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "resize": lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="nearest"),
    "bilinear": lambda x: F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:], mode="bilinear"),
    "flip_space": lambda x: x.flip(-1),
    "flip_channels": lambda x: x.flip(1),
    "roll_channels": lambda x: x.roll(1, 1),
    "sorted": lambda x: x.sort(1).values,
    "cumulative": lambda x: x.cumsum(1),
    "by_own_sum": lambda x: x * torch.sigmoid(x.sum(1, keepdim=True)),
    "by_own_mean": lambda x: x * torch.sigmoid(x.mean(1, keepdim=True)),
    "by_own_max": lambda x: x * torch.sigmoid(x.amax(1, keepdim=True)),
    "minus_mean_over_space": lambda x: x - x.mean((2, 3), keepdim=True),
    "normalized": lambda x: F.normalize(x, dim=1),
    "double_and_back": lambda x: x.to(torch.float64).to(x.dtype),
    "to_last_and_back": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "padded_space": lambda x: F.pad(x, (1, 1, 1, 1))[:, :, 1:-1, 1:-1],
    "padded_ones": lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=1.0), 3, 1),
    "reordered_halves": lambda x: torch.cat([x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2]], 1),
    "first_overwritten": lambda x: _overwrite(x),
    "first_scaled_in_place": lambda x: _scale_first(x),
    "instance_norm": lambda x: F.instance_norm(x),
    "squared": lambda x: x * x,
}.items():
    register_function(_name, _function)


def _overwrite(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :1] = 0.5
    return y


def _scale_first(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, : x.shape[1] // 2].mul_(2.0)
    return y


@leaf
def conv(width: int, number: int) -> tuple[nn.Module, int]:
    new = (4, 6, 8, 12)[number % 4]
    return _conv(width, new, 1 + 2 * (number % 2)), new


@leaf
def conv_bias(width: int, number: int) -> tuple[nn.Module, int]:
    new = (4, 8, 6, 10)[number % 4]
    return nn.Conv2d(width, new, 3, padding=1), new


@leaf
def grouped(width: int, number: int) -> tuple[nn.Module, int]:
    groups = next((g for g in (2 + number % 2, 2, 3) if width % g == 0), 1)
    new = groups * (2 + number % 3)
    return _conv(width, new, 3, groups=groups), new


@leaf
def depthwise(width: int, number: int) -> tuple[nn.Module, int]:
    times = 1 + number % 2
    return _conv(width, width * times, 3, groups=width), width * times


@leaf
def transposed(width: int, number: int) -> tuple[nn.Module, int]:
    depth = number % 2 == 0
    new = width if depth else 6
    return nn.ConvTranspose2d(width, new, 3, padding=1, groups=width if depth else 1), new


@leaf
def batch_norm(width: int, number: int) -> tuple[nn.Module, int]:
    return nn.BatchNorm2d(width, affine=number % 2 == 0), width


@leaf
def group_norm(width: int, number: int) -> tuple[nn.Module, int]:
    groups = (
        width if number % 4 == 1 else next(g for g in (4 if number % 2 else 2, 2, 3, 1) if width % g == 0)
    )
    return nn.GroupNorm(groups, width, affine=number < 9), width


@leaf
def response_norm(width: int, number: int) -> tuple[nn.Module, int]:
    def forward(self: Lambda, x: Tensor) -> Tensor:
        size = x.norm(dim=(2, 3), keepdim=True)
        relative = size / (size.mean(1, keepdim=True) + 1e-3)
        return x + torch.addcmul(self.norm.bias[:, None, None], self.norm.weight[:, None, None], x * relative)

    return Lambda(forward, norm=nn.LayerNorm(width)), width


@leaf
def layer_norm(width: int, number: int) -> tuple[nn.Module, int]:
    norm = nn.LayerNorm(width)
    return Lambda(lambda self, x: self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=norm), width


@leaf
def prelu(width: int, number: int) -> tuple[nn.Module, int]:
    return nn.PReLU(width if number % 2 else 1), width


@leaf
def squeeze_excite(width: int, number: int) -> tuple[nn.Module, int]:
    mlp = nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, width), nn.Sigmoid())
    return Lambda(lambda self, x: x * self.mlp(x.mean((2, 3)))[:, :, None, None], mlp=mlp), width


@leaf
def attention_map(width: int, number: int) -> tuple[nn.Module, int]:
    return Lambda(lambda self, x: x * torch.sigmoid(self.map(x)), map=nn.Conv2d(width, 1, 1)), width


@leaf
def neighbor_attention(width: int, number: int) -> tuple[nn.Module, int]:
    def forward(self: Lambda, x: Tensor) -> Tensor:
        weights: Tensor = self.eca(x.mean((2, 3))[:, None])  # type: ignore[operator]
        return x * torch.sigmoid(weights[:, 0, :, None, None])

    return Lambda(forward, eca=nn.Conv1d(1, 1, 3, padding=1)), width


@leaf
def token_attention(width: int, number: int) -> tuple[nn.Module, int]:
    def forward(self: Lambda, x: Tensor) -> Tensor:
        tokens = self.enter(F.avg_pool2d(x, 2).flatten(2).transpose(1, 2))  # type: ignore[operator]
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]  # type: ignore[operator]
        n, _, c = mixed.shape
        return F.interpolate(mixed.transpose(1, 2).reshape(n, c, 4, 4), scale_factor=2)

    return Lambda(
        forward, enter=nn.Linear(width, 8), attention=nn.MultiheadAttention(8, 2, batch_first=True)
    ), 8


@leaf
def layer_scale(width: int, number: int) -> tuple[nn.Module, int]:
    scale = nn.ParameterList([nn.Parameter(torch.rand(width, 1, 1) + 0.5)])
    return Lambda(lambda self, x: x * self.scale[0], scale=scale), width


@leaf
def position_bias(width: int, number: int) -> tuple[nn.Module, int]:
    bias = nn.ParameterList([nn.Parameter(torch.rand(1, width, 1 if number % 2 else 8, 1))])
    return Lambda(lambda self, x: x + self.bias[0], bias=bias), width


@leaf
def weight_normed(width: int, number: int) -> tuple[nn.Module, int]:
    return parametrizations.weight_norm(nn.Conv2d(width, 6, 1)), 6


@leaf
def standardized(width: int, number: int) -> tuple[nn.Module, int]:
    """Convolution with standardized filters, possibly grouped, with or without a gain."""
    groups = next(g for g in ((1, 2, 3)[number % 3], 2, 1) if width % g == 0)
    layer = nn.Conv2d(width, 6 * groups, 3, padding=1, groups=groups, bias=number > 5)
    layer.register_parameter("gain", nn.Parameter(torch.rand(6 * groups)) if number % 2 else None)

    def forward(self: Lambda, x: Tensor) -> Tensor:
        w, gain = self.layer.weight, self.layer.gain
        rows = F.batch_norm(w.reshape(1, w.shape[0], -1), None, None, weight=gain, training=True)
        return F.conv2d(x, rows.reshape_as(w), self.layer.bias, padding=1, groups=groups)

    def by_hand(self: Lambda, x: Tensor) -> Tensor:
        w, gain = self.layer.weight, self.layer.gain
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        w = w if gain is None else w * gain[:, None, None, None]
        return F.conv2d(x, w, self.layer.bias, padding=1, groups=groups)

    return Lambda(forward if number % 4 < 2 else by_hand, layer=layer), 6 * groups


@leaf
def shuffle(width: int, number: int) -> tuple[nn.Module, int]:
    groups = next((g for g in (2 + number % 2, 2) if width % g == 0), 1)

    def by_view(self: Lambda, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)

    return (Lambda(by_view) if number % 2 else nn.ChannelShuffle(groups)), width


@leaf
def index_select(width: int, number: int) -> tuple[nn.Module, int]:
    generator = torch.Generator().manual_seed(number)
    order = torch.randperm(width, generator=generator)[: max(2, width - number % 3)].tolist()
    return Lambda(lambda self, x: x[:, order]), len(order)


@leaf
def sliced(width: int, number: int) -> tuple[nn.Module, int]:
    start = min(number % 2, width - 1)
    end = min(width, max(start + 2, width - number % 3))
    return Lambda(lambda self, x: x[:, start:end]), end - start


@leaf
def strided(width: int, number: int) -> tuple[nn.Module, int]:
    return Lambda(lambda self, x: torch.cat([x[:, 1::2], x[:, ::2]], 1)), width


@leaf
def folded(width: int, number: int) -> tuple[nn.Module, int]:
    """Pixel unshuffle, a convolution, pixel shuffle."""
    return Lambda(
        lambda self, x: F.pixel_shuffle(self.conv(F.pixel_unshuffle(x, 2)), 2), conv=_conv(4 * width, 24)
    ), 6


@leaf
def to_depth(width: int, number: int) -> tuple[nn.Module, int]:
    def forward(self: Lambda, x: Tensor) -> Tensor:
        parts = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        return F.interpolate(self.conv(parts), scale_factor=2)  # type: ignore[operator]

    return Lambda(forward, conv=_conv(4 * width, 6)), 6


@leaf
def maxout(width: int, number: int) -> tuple[nn.Module, int]:
    if width % 2:
        return nn.Identity(), width
    if number % 2:
        return Lambda(lambda self, x: x.view(x.shape[0], -1, 2, *x.shape[2:]).amax(2)), width // 2
    return Lambda(lambda self, x: torch.maximum(*x.chunk(2, 1))), width // 2


@leaf
def padded_channels(width: int, number: int) -> tuple[nn.Module, int]:
    left, right = number % 3, (number // 3) % 3
    return Lambda(lambda self, x: F.pad(x, (0, 0, 0, 0, left, right))), width + left + right


COMBINATORS: dict[str, Callable[[Spec, int], tuple[nn.Module, int]]] = {}


def combinator(
    build: Callable[[Spec, int], tuple[nn.Module, int]],
) -> Callable[[Spec, int], tuple[nn.Module, int]]:
    """Register a block that contains other blocks."""
    COMBINATORS[build.__name__] = build
    return build


def build(spec: Spec, width: int) -> tuple[nn.Module, int]:
    """Return the module of a spec for an input of `width` channels, and its output's width."""
    if spec.kind in LEAVES:
        return LEAVES[spec.kind](width, spec.number)
    return COMBINATORS[spec.kind](spec, width)


def _with_width(spec: Spec, width: int, out_width: int) -> nn.Module:
    """Return the module of a spec, followed by a 1x1 convolution if its width is not `out_width`."""
    module, built_width = build(spec, width)
    return module if built_width == out_width else nn.Sequential(module, nn.Conv2d(built_width, out_width, 1))


@combinator
def chain(spec: Spec, width: int) -> tuple[nn.Module, int]:
    modules = []
    for inner in spec.inner:
        module, width = build(inner, width)
        modules.append(module)
    return nn.Sequential(*modules), width


@combinator
def residual(spec: Spec, width: int) -> tuple[nn.Module, int]:
    return Lambda(lambda self, x: x + self.inner(x), inner=_with_width(spec.inner[0], width, width)), width


@combinator
def gated(spec: Spec, width: int) -> tuple[nn.Module, int]:
    return Lambda(
        lambda self, x: x * torch.sigmoid(self.inner(x)), inner=_with_width(spec.inner[0], width, width)
    ), width


@combinator
def concatenated(spec: Spec, width: int) -> tuple[nn.Module, int]:
    one, first = build(spec.inner[0], width)
    two, second = build(spec.inner[-1], width)
    keep = spec.number % 2

    def forward(self: Lambda, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x), x][: 2 + keep], 1)  # type: ignore[operator]

    return Lambda(forward, one=one, two=two), first + second + keep * width


@combinator
def halves(spec: Spec, width: int) -> tuple[nn.Module, int]:
    """Apply the inner block to some of the channels: chunk, uneven split or slices."""
    cut = width // 2 if spec.number % 3 == 0 and width % 2 == 0 else max(1, width // 3)
    inner, inner_width = build(spec.inner[0], width - cut)

    def forward(self: Lambda, x: Tensor) -> Tensor:
        if spec.number % 3 == 0 and width % 2 == 0:
            left, right = x.chunk(2, 1)
        elif spec.number % 3 == 1:
            left, right = x.split([cut, width - cut], 1)
        else:
            left, right = x[:, :cut], x[:, cut:]
        return torch.cat([left, self.inner(right)], 1)  # type: ignore[operator]

    return Lambda(forward, inner=inner), cut + inner_width


@combinator
def stacked(spec: Spec, width: int) -> tuple[nn.Module, int]:
    one, one_width = build(spec.inner[0], width)
    two = _with_width(spec.inner[-1], width, one_width)
    reduction = ("sum", "mean", "amax")[spec.number % 3]

    def forward(self: Lambda, x: Tensor) -> Tensor:
        out: Tensor = getattr(torch.stack([self.one(x), self.two(x)], 1), reduction)(1)  # type: ignore[operator]
        return out

    return Lambda(forward, one=one, two=two), one_width


@combinator
def repeated(spec: Spec, width: int) -> tuple[nn.Module, int]:
    inner = _with_width(spec.inner[0], width, width)
    return Lambda(lambda self, x: self.inner(self.inner(x)), inner=inner), width


class Composed(nn.Module):
    """Network of a stem, a random body and one of five heads; the last returns a dict of two outputs."""

    def __init__(self, body: Spec, head: int) -> None:
        super().__init__()
        self.stem = _conv(3, 8)
        self.body, width = build(body, 8)
        self.kind = head % 5
        self.head = nn.Linear(width * (64 if self.kind in (1, 2) else 1), 5)
        if self.kind == 4:
            self.project = nn.Conv2d(width, 6, 1)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        x = self.body(self.stem(x))
        if self.kind == 1:
            x = x.flatten(1)
        elif self.kind == 2:
            x = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        elif self.kind == 3:
            x = F.adaptive_max_pool2d(x, 1).view(x.size(0), -1)
        else:
            out = x
            x = x.mean((2, 3))
        if self.kind == 4:
            return {"logits": self.head(x), "map": self.project(out)}
        logits: Tensor = self.head(x)
        return logits


def specs(depth: int = 2) -> st.SearchStrategy[Spec]:
    """Return a strategy for random trees of blocks, at most `depth` combinators deep."""
    leaves = st.builds(Spec, st.sampled_from(sorted(LEAVES)), st.integers(0, 11))
    convolutions = st.builds(
        Spec, st.sampled_from(["conv", "conv_bias", "grouped", "depthwise"]), st.integers(0, 11)
    )
    one = convolutions | leaves
    if depth:
        below = specs(depth - 1)
        one |= st.builds(
            Spec,
            st.sampled_from(sorted(set(COMBINATORS) - {"chain"})),
            st.integers(0, 11),
            st.lists(below, min_size=1, max_size=2).map(tuple),
        )
    return st.builds(
        Spec,
        st.just("chain"),
        st.just(0),
        st.lists(one, min_size=1, max_size=4 if depth == 2 else 3).map(tuple),
    )
