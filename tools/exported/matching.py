"""Which parameter of a module each number of an exported initializer is.

No two numbers of a module's parameters and running statistics are equal (`zoo.make_module`), so an initializer that
an exporter transposed, split, reordered and packed is recognized number by number. What it computed (a convolution
with its normalization folded in, a normalized weight) is recognized by computing the same with autograd's record.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .zoo import statistics

Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass
class Matching:
    """What the initializers of a graph are.

    Attributes:
        module: a copy of the module, whose parameters ``derived`` was computed from.
        exact: initializer to the numbers (positions in all parameters, laid end to end) that it is made of.
        derived: initializer to the tensor with the same numbers, computed from parameters.
        buffers: initializers that are buffers of the module other than running statistics.
        unknown: initializers that are no parameters, with a reason.
    """

    module: nn.Module
    exact: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    derived: dict[str, Tensor] = field(default_factory=dict)
    buffers: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    def covered(self) -> np.ndarray[Any, Any]:
        """For each number of the parameters, whether an initializer holds it or was computed from it."""
        sizes = sum(p.numel() for p in self.module.parameters())
        found = np.zeros(sizes, bool)
        for positions in self.exact.values():
            found[positions[positions >= 0]] = True
        pulled = self.pull_back({k: np.ones(t.shape, "float32") for k, t in self.derived.items()})
        return found | np.concatenate([(pulled[k] != 0).ravel() for k, _ in self.module.named_parameters()])

    def pull_back(self, gradients: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """From gradients by the initializers to gradients by the parameters, by name."""
        parameters = dict(self.module.named_parameters())
        total = np.zeros(sum(p.numel() for p in parameters.values()))
        for name, g in gradients.items():
            if name in self.exact:
                positions = self.exact[name]
                kept = positions >= 0
                np.add.at(total, positions[kept], g.ravel()[kept])
        split = np.split(total, np.cumsum([p.numel() for p in parameters.values()])[:-1])
        found = {k: s.reshape(p.shape) for (k, p), s in zip(parameters.items(), split, strict=True)}
        used = [n for n in gradients if n in self.derived]
        if used:
            values = [self.derived[n] for n in used]
            cotangents = [torch.tensor(gradients[n], dtype=torch.float32).reshape(self.derived[n].shape) for n in used]
            more = torch.autograd.grad(
                values, list(parameters.values()), cotangents, allow_unused=True, retain_graph=True
            )
            for k, m in zip(parameters, more, strict=True):
                if m is not None:
                    found[k] = found[k] + m.numpy()
        return found


def match(module: nn.Module, initializers: Arrays) -> Matching:
    """Recognizes the float initializers of a graph."""
    module = deepcopy(module)
    parameters = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()
    order = np.argsort(parameters)
    running = statistics(module)
    others = np.concatenate([np.zeros(1, "float32"), *(b.numpy().ravel() for b in running.values())])
    buffers = [b.numpy().ravel() for k, b in module.named_buffers() if k not in running]
    candidates = _computed(module)
    found = Matching(module)
    for name, array in initializers.items():
        flat = np.asarray(array, "float32").ravel()
        at = order[np.minimum(np.searchsorted(parameters[order], flat), len(order) - 1)]
        hit = parameters[at] == flat
        if hit.all() or (hit.any() and not flat[~hit].any()):
            found.exact[name] = np.where(hit, at, -1)
            continue
        near = [
            c
            for c in candidates
            if c.numel() == flat.size and np.allclose(c.detach().numpy().ravel(), flat, 1e-4, 1e-6)
        ]
        if near:
            found.derived[name] = near[0]
        elif any(b.size == flat.size and np.allclose(b, flat) for b in buffers):
            found.buffers.append(name)
        elif np.isin(flat, others).all():
            found.unknown[name] = "running statistics"
        else:
            found.unknown[name] = f"{hit.sum()} of {flat.size} numbers are parameters"
    return found


def _computed(module: nn.Module) -> list[Tensor]:
    """Tensors that exporters compute ahead: normalization folded into each convolution, parametrized weights."""
    layers = [m for m in module.modules() if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear))]
    found = [m.weight for m in layers if hasattr(m, "parametrizations")]
    found += [t.t() for t in found if t.ndim == 2]
    for norm in (m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator]
        for layer in layers:
            transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
            width = layer.weight.shape[1 if transposed else 0]
            if width == len(scale):
                shape = [1, -1] if transposed else [-1, 1]
                shape += [1] * (layer.weight.ndim - 2)
                bias = 0 if layer.bias is None else layer.bias
                found += [layer.weight * scale.reshape(shape), norm.bias + (bias - norm.running_mean) * scale]
        found += [scale, norm.bias - norm.running_mean * scale]
    return found
