"""The models: how each is made, what it is fed, and how it is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import images, sequences

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        make: the module, with whatever weights.
        inputs: ``(batch size, generator) -> inputs by name``, in the order of the module's arguments.
        outputs: names of its outputs; the first is trained.
        exporters: ``"script"`` (``dynamo=False``), ``"dynamo"``.
        reference: what to run in PyTorch, where it is not the module itself.
        random: its ``torch.randn_like`` is part of the model.
        opsets: of the script exporter, those that it can export the model at.
        fresh: keeps the weights that PyTorch begins with, many of them zeros and ones.
        example: batch size that it is exported with.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Inputs]
    outputs: tuple[str, ...] = ("out",)
    exporters: tuple[str, ...] = ("script", "dynamo")
    reference: Callable[[nn.Module], Callable[..., Any]] = field(default=lambda m: m)
    random: bool = False
    opsets: tuple[int, ...] = (9, 11, 13, 17)
    fresh: bool = False
    example: int = 3


def _image(channels: int, size: int) -> Callable[[int, torch.Generator], Inputs]:
    return lambda n, g: {"x": torch.randn(n, channels, size, size, generator=g)}


def _floats(*shape: int) -> Callable[[int, torch.Generator], Inputs]:
    return lambda n, g: {"x": torch.randn(n, *shape, generator=g)}


def _ids(below: int, length: int) -> Callable[[int, torch.Generator], Inputs]:
    return lambda n, g: {"ids": torch.randint(0, below, (n, length), generator=g)}


def _padding(n: int, length: int) -> Tensor:
    """True beyond the length of each row; rows have length 2, 3, ... and repeat."""
    return torch.arange(length)[None] >= 2 + torch.arange(n)[:, None] % (length - 1)


def _padded(n: int, g: torch.Generator) -> Inputs:
    return {"x": torch.randn(n, 5, 6, generator=g), "padding": _padding(n, 5)}


def _masked(n: int, g: torch.Generator) -> Inputs:
    return {"x": torch.randn(n, 5, 16, generator=g), "mask": (~_padding(n, 5)).long()}


def _diffusion(n: int, g: torch.Generator) -> Inputs:
    return {"x": torch.randn(n, 3, 8, 8, generator=g), "t": torch.rand(n, generator=g) * 10}


def _recommender(n: int, g: torch.Generator) -> Inputs:
    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, (n, *shape), generator=g)

    return {
        "user": draw(1, 10),
        "items": draw(0, 30, 4),
        "tags": draw(0, 20, 3),
        "dense": torch.randn(n, 4, generator=g),
    }


def _indexing(n: int, g: torch.Generator) -> Inputs:
    return {"x": torch.randn(n, 6, 6, generator=g), "index": torch.randint(0, 7, (n, 3), generator=g)}


def _stepped(n: int, g: torch.Generator) -> Inputs:
    return {"x": torch.randn(n, 5, 4, generator=g), "state": torch.randn(n, 6, generator=g)}


def _eager(module: nn.Module) -> Callable[..., Any]:
    return module.eager  # type: ignore[return-value]


ENTRIES = (
    Entry("resnet", images.ResNet, _image(3, 32)),
    Entry("resnet-fresh", images.ResNet, _image(3, 32), fresh=True),
    Entry("mobilenet", images.MobileNet, _image(3, 16)),
    Entry("unet", images.UNet, _image(1, 16)),
    Entry("convnext", images.ConvNeXt, _image(3, 32)),
    Entry("generator", images.Generator, lambda n, g: {"z": torch.randn(n, 6, 1, 1, generator=g)}),
    Entry("discriminator", images.Discriminator, _image(3, 16)),
    Entry("diffusion", images.DiffusionBlock, _diffusion, opsets=(12, 13, 17)),
    Entry("vit", images.VisionTransformer, _image(3, 16), opsets=(14, 17)),
    Entry("vae", images.VAE, _floats(12), ("out", "mean", "log_variance"), random=True),
    Entry("encoder", sequences.Encoder, _padded, opsets=(14, 17)),
    Entry("attention", sequences.Attention, _masked),
    Entry("gpt", sequences.GPT, _ids(20, 8), opsets=(14, 17)),
    Entry("tied", sequences.CausalByHand, _ids(20, 8), opsets=(11, 13, 17)),
    Entry("lstm", sequences.LSTM, _floats(7, 5), ("out", "states")),
    Entry("gru", sequences.GRU, _ids(15, 7)),
    Entry("rnn", sequences.ElmanRNN, _floats(6, 5)),
    Entry("scripted", sequences.ScriptLoop, _floats(5, 4), exporters=("script",)),
    Entry("scan", sequences.HigherOrder, _floats(5, 4), exporters=("dynamo",), reference=_eager),
    Entry("while", sequences.WhileLoop, _floats(5), exporters=("dynamo",), reference=_eager),
    Entry("recommender", sequences.Recommender, _recommender),
    Entry("indexing", sequences.Indexing, _indexing, opsets=(12, 13, 17)),
    Entry("assorted", images.Assorted, _image(2, 6), opsets=(20,)),
    Entry("cells", sequences.Cells, _stepped, opsets=(14, 17)),
    Entry("t5", sequences.T5, _ids(20, 8), opsets=(13, 17)),
    Entry("encoder-fresh", sequences.Encoder, _padded, opsets=(14, 17), fresh=True),
    Entry("audio", sequences.Conv1dAudio, _floats(2, 12)),
)

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm)


def make_module(entry: Entry, seed: int = 0) -> nn.Module:
    """The module, in inference mode, with random weights and running statistics, no two numbers of them equal."""
    torch.manual_seed(seed)
    module = entry.make()
    if entry.fresh:
        return module.eval()
    taken: set[float] = set()
    with torch.no_grad():
        for norm in (m for m in module.modules() if isinstance(m, NORMS)):
            if norm.weight is not None:
                norm.weight.uniform_(0.5, 1.5)
            if getattr(norm, "running_var", None) is not None:
                norm.running_var.uniform_(0.5, 1.5)  # type: ignore[operator, union-attr]
                norm.running_mean.normal_(0, 0.3)  # type: ignore[operator, union-attr]
        for p in module.parameters():
            if p.unique().numel() < p.numel() or p.numel() == 1:
                p.add_(torch.randn_like(p) * 0.1)
        for t in [*module.parameters(), *statistics(module).values()]:
            _make_unique(t, taken)
    return module.eval()


def _make_unique(t: Tensor, taken: set[float]) -> None:
    flat = t.view(-1)
    for i, v in enumerate(flat.tolist()):
        while v in taken or v == 0:
            v = float(np.float32(v + 1e-4 * (1 + abs(v))))
        taken.add(v)
        flat[i] = v


def statistics(module: nn.Module) -> dict[str, Tensor]:
    """The running statistics, by name."""
    return {k: b for k, b in module.named_buffers() if k.endswith(("running_mean", "running_var"))}


def example(entry: Entry, n: int, seed: int = 1) -> Inputs:
    """Inputs of batch size ``n``."""
    return entry.inputs(n, torch.Generator().manual_seed(seed))


def as_arrays(inputs: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """The same as NumPy arrays."""
    return {k: v.detach().numpy() for k, v in inputs.items()}
