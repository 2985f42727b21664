"""One exported file with the module it came from, and what PyTorch and ONNX Runtime make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from graphrt_onnx import to_onnx
from torch import Tensor, nn

import graphrt as gr
from graphrt.ir.builder import BuilderValue, GraphBuilder
from graphrt.manager import get_registry
from graphrt.passes.mode import set_mode

from .exporting import Variant
from .matching import Matching, match
from .zoo import Entry, Inputs, as_arrays, example

Arrays = dict[str, Any]
BATCH = 4


class Wrong(Exception):
    """A file does not do what it should."""


class Skip(Exception):
    """The question does not arise for this file."""


class Noise:
    """Watches a run and keeps what its random ops drew."""

    def __init__(self) -> None:
        self.drawn: list[Any] = []

    def on_node(self, node: gr.Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Keeps the outputs of random nodes."""
        if node.op_type.startswith("RandomNormal"):
            self.drawn += outputs.values()


class Subject:
    """One exported file with the module it came from."""

    def __init__(self, entry: Entry, module: nn.Module, variant: Variant, path: Path, wanted: int = BATCH):
        self.entry, self.module, self.variant, self.path, self.wanted = entry, module, variant, path, wanted
        self.start = {k: v.clone() for k, v in module.state_dict().items()}
        self.noise = Noise()

    @cached_property
    def graph(self) -> gr.Graph:
        """The file, loaded."""
        return gr.load(self.path)

    @cached_property
    def batch(self) -> int:
        """The batch size to try: another than that of the export, unless ONNX Runtime cannot run the file then."""
        try:
            self.run_ort(self.path, as_arrays(example(self.entry, self.wanted)))
        except Exception:
            return self.entry.example
        return self.wanted

    @cached_property
    def inputs(self) -> Inputs:
        """Inputs, by name."""
        return example(self.entry, self.batch, seed=2)

    @cached_property
    def feeds(self) -> Arrays:
        """The same as arrays; those that the exporter dropped are left out."""
        return {k: v for k, v in as_arrays(self.inputs).items() if k in self.graph.input_names}

    @cached_property
    def target(self) -> Tensor:
        """A fixed random target of the first output."""
        with torch.no_grad():
            shape = self.torch_outputs(False)[0].shape
        return torch.rand(shape, generator=torch.Generator().manual_seed(3))

    @cached_property
    def matching(self) -> Matching:
        """The graph's trained initializers as parameters of the module."""
        return match(self.module, {k: self.graph.initializers[k] for k in gr.Session(self.graph).trainable()})

    @property
    def folded(self) -> bool:
        """The exporter folded normalizations into convolutions."""
        return bool(self.matching.derived)

    def session(self, mode: str | None = None, graph: gr.Graph | None = None) -> gr.Session:
        """A session that notes the noise."""
        self.noise.drawn.clear()
        return gr.Session(
            self.graph if graph is None else graph, mode=mode, observers=[self.noise] if self.entry.random else ()
        )

    def with_loss(self) -> gr.Graph:
        """The graph with a mean of squares as its only output, computed from further input ``goal``."""
        b = GraphBuilder.extending(self.graph)
        d = b.value(self.entry.outputs[0]) - b.input("goal", "float32")
        b.output(b.ReduceMean(BuilderValue(b, d.name, "float32") * d, keepdims=0), "objective")
        return b.build(value_info=self.graph.value_info)

    @cached_property
    def faithful(self) -> bool:
        """Whether the file computes what the module does, as ONNX Runtime sees it (in inference)."""
        if self.entry.random:
            return True
        model = to_onnx(set_mode(self.graph, get_registry(), mode="infer")).SerializeToString()
        pairs = zip(self.run_ort(model, self.feeds), self.torch_outputs(False), strict=True)
        return all(np.allclose(a, b.detach(), 1e-3, 1e-4) for a, b in pairs)

    def require_faithful(self) -> None:
        """Skips a question that an unfaithful export does not answer."""
        if not self.faithful:
            raise Skip("PyTorch exports something else than its module: ONNX Runtime differs too")

    def require_recognizable(self) -> None:
        """Skips a question that needs to know which parameter is which."""
        if self.entry.fresh:
            raise Skip("fresh weights: many numbers are equal")

    # ---- PyTorch and ONNX Runtime

    @contextmanager
    def reset(self, training: bool) -> Iterator[Callable[..., Any]]:
        """The module as it was exported, in a mode, with the noise that was drawn; restored afterwards."""
        self.module.load_state_dict(self.start)
        self.module.train(training)
        kept, drawn = torch.randn_like, iter(self.noise.drawn)
        if self.noise.drawn:
            torch.randn_like = lambda t: torch.tensor(next(drawn)).reshape(t.shape)  # type: ignore[assignment]
        try:
            yield self.entry.reference(self.module)
        finally:
            torch.randn_like = kept  # type: ignore[assignment]
            self.module.eval()
            self.module.load_state_dict(self.start)

    def torch_outputs(self, training: bool) -> list[Tensor]:
        """What the module computes."""
        with self.reset(training) as run:
            out = run(*self.inputs.values())
        return list(out) if isinstance(out, tuple) else [out]

    def run_ort(self, path: Path | bytes, feeds: Arrays) -> list[Any]:
        """What ONNX Runtime computes; random nodes become inputs that are fed what we drew."""
        source = path if isinstance(path, bytes) else str(path)
        if self.entry.random:
            model = onnx.load_from_string(path) if isinstance(path, bytes) else onnx.load(path)
            nodes = [n for n in model.graph.node if n.op_type.startswith("RandomNormal")]
            for i, n in enumerate(nodes):
                model.graph.input.append(onnx.helper.make_tensor_value_info(n.output[0], 1, None))
                model.graph.node.remove(n)
                feeds = feeds | {n.output[0]: self.noise.drawn[i] if self.noise.drawn else np.zeros((1, 4), "float32")}
            source = model.SerializeToString()
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        if self.variant.mode == "raw":  # its optimizer crashes on such files
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        names = {i.name for i in session.get_inputs()}
        return session.run(None, {k: v for k, v in feeds.items() if k in names})
