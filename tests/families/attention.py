"""Channel, spatial and token attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from families.base import Net, block, case


@case("a.0", "fc1")
class SqueezeExciteConv(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(x * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))))


@case("a.0", "fc.0")
class SqueezeExciteLinear(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, _, _ = x.size()
        y = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return self.classify(x * self.fc(y).view(b, c, 1, 1).expand_as(x))


@case("b.0", a__0="conv1d")
class EfficientChannelAttention(Net):
    """A 1-d convolution over the channels mixes neighbors, so its channels are protected."""

    def __init__(self) -> None:
        super().__init__()
        self.eca = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = x.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2)
        y = self.eca(y).transpose(-1, -2).unsqueeze(-1)
        return self.classify(self.b(x * torch.sigmoid(y)))


@case("a.0", "b.0")
class OneChannelAttention(Net):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.classify(self.b(x * torch.sigmoid(self.attend(x))))


@case("b.0", "fc.0", a__0="over channels")
class CBAM(Net):
    """Channel attention by mean and maximum; spatial attention whose maximum over channels protects."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
        self.space = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        scale = torch.sigmoid(self.fc(x.mean((2, 3))) + self.fc(x.amax((2, 3))))
        x = x * scale[:, :, None, None]
        maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.classify(self.b(x * torch.sigmoid(self.space(maps))))


@case("a.0", "b.0", "fc1")
class RadixView(Net):
    """Split attention: the parts of a radix view are weighted and summed."""

    def __init__(self) -> None:
        super().__init__(8)
        self.b = block(8, 16, groups=2)
        self.fc1, self.fc2 = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        n, c, h, w = x.shape
        parts = x.view(n, 2, c // 2, h, w)
        attention = self.fc2(F.relu(self.fc1(parts.sum(1).mean((2, 3), keepdim=True))))
        attention = torch.sigmoid(attention).view(n, 2, c // 2, 1, 1)
        return self.classify((parts * attention).sum(1))


@case("b.0", "fc1")
class SelectiveKernel(Net):
    """Softmax over two branches, not over channels."""

    def __init__(self) -> None:
        super().__init__(8)
        self.c = block(8, 8, 1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        parts = torch.stack([self.b(x), self.c(x)], 1)
        z = F.relu(self.fc1(parts.sum(1).mean((2, 3))))
        weights = torch.softmax(torch.stack([self.fc2(z), self.fc3(z)], 1), 1)
        return self.classify((parts * weights[..., None, None]).sum(1))


@case("a.0", "b.0")
class ScaledHeads(Net):
    """One parameter per head, broadcast over the head's channels; a head is kept or removed as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        heads = x.view(x.shape[0], 4, 2, 64) * self.temperature
        return self.classify(self.b(heads.view(x.shape[0], 8, 8, 8)))


@case("a.0")
class MultiHeadAttention(nn.Module):
    """Attention after a CNN: heads are kept, the weight columns that read the CNN are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 12)
        self.project = nn.Linear(12, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.wide, self.head = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.project(self.a(x).flatten(2).transpose(1, 2))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        out: Tensor = self.head(F.gelu(self.wide(tokens)).mean(1))
        return out


@case("a.0")
class AttentionOnChannels(nn.Module):
    """Queries, keys and values read the CNN directly."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.qkv, self.out = block(3, 12), nn.Linear(12, 24), nn.Linear(8, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.a(x).flatten(2).transpose(1, 2)
        n, t, _ = tokens.shape
        q, k, v = self.qkv(tokens).reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(4), -1)
        y = (weights @ v).transpose(1, 2).reshape(n, t, 8)
        out: Tensor = self.head(self.out(y).mean(1))
        return out
