"""Whole models as people write them in PyTorch, about an eighth of their usual size, and their export to ONNX."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, n: int, m: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n, m, 3, stride, 1, bias=False), nn.BatchNorm2d(m)
        self.conv2, self.bn2 = nn.Conv2d(m, m, 3, 1, 1, bias=False), nn.BatchNorm2d(m)
        same = stride == 1 and n == m
        self.down = nn.Identity() if same else nn.Sequential(nn.Conv2d(n, m, 1, stride, bias=False), nn.BatchNorm2d(m))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.down(x))


class ResNet(nn.Module):
    """ResNet-18: a 7x7 stem and eight residual blocks."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks, n = [], width
        for m, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            blocks += [Residual(n, m, stride), Residual(m, m, 1)]
            n = m
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(n, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.max_pool2d(self.stem(x), 3, 2, 1))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inverted(nn.Module):
    """Expand by 1x1, depthwise 3x3, project by 1x1."""

    def __init__(self, n: int, m: int, stride: int, factor: int = 4):
        super().__init__()
        w = n * factor
        self.body = nn.Sequential(
            nn.Conv2d(n, w, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU6(),
            nn.Conv2d(w, w, 3, stride, 1, groups=w, bias=False), nn.BatchNorm2d(w), nn.ReLU6(),
            nn.Conv2d(w, m, 1, bias=False), nn.BatchNorm2d(m),
        )  # fmt: skip
        self.same = stride == 1 and n == m

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.same else y


class MobileNet(nn.Module):
    """MobileNet-v2: a stem and inverted residuals."""

    def __init__(self) -> None:
        super().__init__()
        shape = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(*(Inverted(*s) for s in shape))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


def _double(n: int, m: int) -> nn.Module:
    layers = [nn.Conv2d(n, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(m, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU())


class UNet(nn.Module):
    """U-Net with three levels; scores per pixel."""

    def __init__(self, w: int = 16):
        super().__init__()
        self.down1, self.down2, self.middle = _double(3, w), _double(w, 2 * w), _double(2 * w, 4 * w)
        self.up2, self.up1 = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2), nn.ConvTranspose2d(2 * w, w, 2, 2)
        self.join2, self.join1, self.head = _double(4 * w, 2 * w), _double(2 * w, w), nn.Conv2d(w, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.middle(F.max_pool2d(b, 2))
        b = self.join2(torch.cat([self.up2(c), b], 1))
        return self.head(self.join1(torch.cat([self.up1(b), a], 1)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, d: int, heads: int, causal: bool):
        super().__init__()
        self.norm1, self.norm2, self.heads, self.causal = nn.LayerNorm(d), nn.LayerNorm(d), heads, causal
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Token and position embeddings, pre-norm blocks, and scores per token (causal) or per sequence."""

    def __init__(self, causal: bool, layers: int = 4, d: int = 128, vocabulary: int = 512, length: int = 64):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, d), nn.Parameter(0.02 * torch.randn(length, d))
        self.blocks = nn.Sequential(*(Block(d, 4, causal) for _ in range(layers)))
        self.norm, self.head, self.causal = nn.LayerNorm(d), nn.Linear(d, vocabulary if causal else 10), causal

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.tokens(ids) + self.positions))
        return self.head(x).transpose(1, 2) if self.causal else self.head(x.mean(1))


class Recurrent(nn.Module):
    """Embedding, a two-layer LSTM, scores of the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.lstm, self.head = (
            nn.Embedding(512, 64),
            nn.LSTM(64, 128, 2, batch_first=True),
            nn.Linear(128, 10),
        )

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.tokens(ids))[0][:, -1])


@dataclass(frozen=True)
class Model:
    """A whole model: how it is made, and the shapes of its input and target."""

    make: Callable[[], nn.Module]
    input: tuple[int, ...]
    target: tuple[int, ...]
    ids: bool = False
    rate: float = 0.01


MODELS = {
    "resnet18": Model(ResNet, (8, 3, 64, 64), (8,)),
    "mobilenet": Model(MobileNet, (8, 3, 64, 64), (8,)),
    "unet": Model(UNet, (4, 3, 64, 64), (4, 64, 64)),
    "encoder-model": Model(lambda: Transformer(False), (8, 64), (8,), ids=True),
    "lstm-model": Model(Recurrent, (16, 32), (16,), ids=True),
    "gpt": Model(lambda: Transformer(True), (8, 64), (8, 64), ids=True),
}
"""The whole models by name."""


def make_model(name: str) -> nn.Module:
    """The module, with the same weights in every process."""
    torch.manual_seed(0)
    return MODELS[name].make()


def export_model(name: str, folder: Path) -> None:
    """Writes ``NAME.onnx`` (input ``x``, output ``logits``, nothing folded) and ``NAME.npz``, its batch."""
    model, module, rng = MODELS[name], make_model(name).eval(), np.random.default_rng(0)
    x = rng.integers(0, 512, model.input) if model.ids else rng.standard_normal(model.input, np.float32)
    target = rng.integers(0, 10, model.target)
    np.savez(folder / f"{name}.npz", x=x, target=target, rate=model.rate)
    with warnings.catch_warnings(), _silence(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.from_numpy(x),), str(folder / f"{name}.onnx"), dynamo=False, opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE, input_names=["x"], output_names=["logits"],
        )  # fmt: skip


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing reaches the terminal, also of what C++ writes."""
    kept, nothing = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for i in (1, 2):
            os.dup2(nothing, i)
        yield
    finally:
        for i, fd in enumerate(kept, 1):
            os.dup2(fd, i)
            os.close(fd)
        os.close(nothing)
