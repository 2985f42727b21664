"""Exports a module by either of PyTorch's exporters."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn
from torch.onnx import TrainingMode

from .zoo import Entry, example, statistics

SCRIPT_MODES = {"eval": TrainingMode.EVAL, "keep": TrainingMode.PRESERVE, "train": TrainingMode.TRAINING}


@dataclass(frozen=True)
class Variant:
    """One way to export.

    Attributes:
        exporter: ``"script"`` or ``"dynamo"``.
        opset: None is the exporter's default.
        mode: of the script exporter ``"eval"`` (BatchNormalization folded into Conv), ``"keep"`` (not folded) or
            ``"train"``; of the other ``"eval"`` (optimized) or ``"raw"`` (as traced).
    """

    exporter: str
    opset: int | None
    mode: str

    def __str__(self) -> str:
        return f"{self.exporter} {self.opset or ''} {self.mode}".replace("  ", " ")


def variants(entry: Entry) -> Iterator[Variant]:
    """The variants that apply to a model."""
    if "script" in entry.exporters:
        yield from (Variant("script", o, "eval") for o in entry.opsets)
        yield Variant("script", entry.opsets[len(entry.opsets) // 2 - 1], "keep")
        yield from (Variant("script", o, "train") for o in dict.fromkeys((entry.opsets[0], entry.opsets[-1])))
    if "dynamo" in entry.exporters:
        yield from (Variant("dynamo", None, m) for m in ("eval", "raw"))


def export(entry: Entry, module: nn.Module, variant: Variant, path: Path) -> None:
    """Writes the file; the module stays as it was.

    Raises:
        Exception: whatever the exporter raises where it cannot.
    """
    state = {k: v.clone() for k, v in module.state_dict().items()}
    inputs = example(entry, entry.example)
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # a fused op that no exporter knows
    with warnings.catch_warnings(), _silence(), torch.no_grad():
        warnings.simplefilter("ignore")
        if variant.exporter == "script":
            names = [*inputs, *entry.outputs]
            torch.onnx.export(
                module, tuple(inputs.values()), str(path), dynamo=False, opset_version=variant.opset,
                training=SCRIPT_MODES[variant.mode], input_names=list(inputs), output_names=list(entry.outputs),
                do_constant_folding=variant.mode != "train", dynamic_axes={n: {0: "batch"} for n in names},
            )  # fmt: skip
        else:
            torch.onnx.export(
                module, tuple(inputs.values()), str(path), dynamo=True, input_names=list(inputs), verbose=False,
                output_names=list(entry.outputs), dynamic_shapes=tuple({0: "batch"} for _ in inputs),
                optimize=variant.mode == "eval",
            )  # fmt: skip
    if variant.mode == "train":  # exporting ran the model, which moved the running statistics: take those of the file
        state |= {i.name: torch.tensor(onnx.numpy_helper.to_array(i)) for i in _statistics(path, module)}
    module.load_state_dict(state)
    module.eval()


def _statistics(path: Path, module: nn.Module) -> list[onnx.TensorProto]:
    names = statistics(module)
    return [i for i in onnx.load(path).graph.initializer if i.name in names]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing reaches the terminal, also of what C++ writes."""
    kept, nothing = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for i in (1, 2):
            os.dup2(nothing, i)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for i, fd in enumerate(kept, 1):
            os.dup2(fd, i)
            os.close(fd)
        os.close(nothing)
