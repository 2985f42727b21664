"""What is checked of one exported file: one function a column of the table.

Each returns nothing when the file passes, and raises `Wrong` (or anything else) when it does not, or `Skip` where
the question does not arise.
"""

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
from torch import Tensor, nn
from torch.nn import functional as F

import graphrt as gr
from graphrt.check import check
from graphrt.ir.builder import BuilderValue, GraphBuilder
from graphrt.manager import get_registry
from graphrt.passes.mode import set_mode
from graphrt_onnx import to_onnx

from .exporting import Variant
from .matching import Matching, match
from .zoo import Entry, Inputs, as_arrays, example, statistics

Arrays = dict[str, Any]
BATCH, STEPS, RATE = 4, 20, 0.05


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
        return gr.Session(self.graph if graph is None else graph, mode=mode, observers=[self.noise] if self.entry.random else ())

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


# ---- comparing -----------------------------------------------------------------------------------------


def _close(what: str, got: Any, expected: Any, tolerance: float, floor: float = 1e-6) -> None:
    got, expected = np.asarray(got, "float64"), np.asarray(expected, "float64")
    if got.shape != expected.shape:
        raise Wrong(f"{what}: shape {got.shape}, not {expected.shape}")
    error = np.max(np.abs(got - expected), initial=0) / max(np.max(np.abs(expected), initial=0), floor)
    if not error <= tolerance:
        raise Wrong(f"{what}: off by {error:.2g} relative")


def _same_gradients(got: Arrays, expected: Arrays, what: str) -> None:
    largest = max(np.linalg.norm(g) for g in expected.values())
    bad = {}
    for name, e in expected.items():
        error = np.linalg.norm(got[name] - e) / max(np.linalg.norm(e), 1e-4 * largest)
        if not error <= 1e-3:
            bad[name] = error
    if bad:
        listed = ", ".join(f"{k} {v:.2g}" for k, v in list(bad.items())[:4])
        raise Wrong(f"{what}: {len(bad)} of {len(expected)} parameters are off: {listed}")


# ---- columns -------------------------------------------------------------------------------------------


def load(s: Subject) -> None:
    """The file loads."""
    s.graph  # noqa: B018


def report(s: Subject) -> None:
    """`graphrt check` finds no errors."""
    found = check(s.graph, get_registry())
    errors = [p for p in found.problems if p.severity == "error"]
    if errors:
        raise Wrong(f"{len(errors)} errors: {errors[0]}")
    used = {k for k, g in _torch_gradients(s, False).items() if np.any(g)}
    blocked = {b.name for b in found.trainability.blocked} & used if found.trainability else set()
    if blocked:
        raise Wrong(f"blocked: {sorted(blocked)[:5]}")


def outputs(s: Subject) -> None:
    """Outputs agree with ONNX Runtime's and with PyTorch's."""
    training = s.variant.mode == "train"
    s.batch  # noqa: B018
    ours = list(s.session().run(s.feeds).values())
    if not (training and statistics(s.module)):  # ONNX Runtime does not run BatchNormalization in training
        for name, a, b in zip(s.entry.outputs, ours, s.run_ort(s.path, s.feeds), strict=True):
            _close(f"{name} against ORT", a, b, 1e-4)
    s.require_faithful()
    for name, a, b in zip(s.entry.outputs, ours, s.torch_outputs(training), strict=True):
        _close(f"{name} against torch", a, b.detach(), 1e-4)


def parameters(s: Subject) -> None:
    """What is trained is what PyTorch calls parameters."""
    s.require_recognizable()
    m = s.matching
    if m.unknown:
        name, why = next(iter(m.unknown.items()))
        raise Wrong(f"{len(m.unknown)} trained that are no parameters: {name} ({why})")
    covered, start = m.covered(), 0
    for name, g in _torch_gradients(s, False).items():
        if (g.ravel()[~covered[start : start + g.size]] != 0).any():
            raise Wrong(f"not trained: {name}")
        start += g.size
    trainer = gr.Trainer(s.graph, "mean_squared_error", output=s.entry.outputs[0])
    if set(trainer.trainable) != set(gr.Session(s.graph).trainable()):
        raise Wrong(f"Trainer and Session disagree: {set(trainer.trainable) ^ set(gr.Session(s.graph).trainable())}")
    if m.buffers:
        raise Skip(f"trains the buffers {m.buffers}, which the file does not tell from parameters")


def _torch_gradients(s: Subject, training: bool) -> Arrays:
    target = s.target
    with s.reset(training) as run, torch.enable_grad():
        out = run(*s.inputs.values())
        out = out[0] if isinstance(out, tuple) else out
        names, ps = zip(*s.module.named_parameters(), strict=True)
        gradients = torch.autograd.grad(F.mse_loss(out, target), ps, allow_unused=True)
        kept = zip(names, ps, gradients, strict=True)
        return {n: np.zeros(p.shape) if g is None else g.double().numpy() for n, p, g in kept}


def _our_gradients(s: Subject, mode: str) -> tuple[Arrays, gr.Session]:
    session = s.session(mode, s.with_loss())
    feeds = s.feeds | {"goal": s.target.numpy()}
    _, gradients = session.value_and_grad(feeds, of="objective", wrt=gr.Session(s.graph).trainable())
    return s.matching.pull_back(gradients), session


def gradients(s: Subject) -> None:
    """Gradients in inference mode agree with PyTorch's."""
    s.require_recognizable()
    s.require_faithful()
    ours, _ = _our_gradients(s, "infer")
    _same_gradients(ours, _torch_gradients(s, False), "infer")


def training(s: Subject) -> None:
    """Gradients and running statistics in training mode agree with PyTorch's."""
    s.require_recognizable()
    s.require_faithful()
    if s.folded and statistics(s.module):
        raise Skip("normalization was folded")
    ours, session = _our_gradients(s, "train")
    _same_gradients(ours, _torch_gradients(s, True), "train")
    if not statistics(s.module):
        return
    before = {k: v.numpy().copy() for k, v in statistics(s.module).items()}
    after = _updated_statistics(s)
    for name, old in before.items():
        held = [k for k, a in s.graph.initializers.items() if np.array_equal(a, old)]
        if len(held) != 1:
            raise Wrong(f"{name} is held by {held}")
        _close(f"update of {name}", session.parameters[held[0]], after[name], 1e-4)


def _updated_statistics(s: Subject) -> Arrays:
    """PyTorch's running statistics after a step, but with the population's variance, as ONNX has it."""
    counts: dict[str, int] = {}
    hooks = [
        m.register_forward_hook(lambda m, x, y, k=k: counts.update({k: x[0].numel() // x[0].shape[1]}))
        for k, m in s.module.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    found = {}
    with s.reset(True) as run, torch.no_grad():
        before = {k: v.clone() for k, v in statistics(s.module).items()}
        run(*s.inputs.values())
        for name, new in statistics(s.module).items():
            layer, _, kind = name.rpartition(".")
            n, momentum = counts[layer], s.module.get_submodule(layer).momentum
            batch = (new - (1 - momentum) * before[name]) / momentum
            batch = batch * (n - 1) / n if kind == "running_var" else batch
            found[name] = ((1 - momentum) * before[name] + momentum * batch).numpy().copy()
    for h in hooks:
        h.remove()
    return found


def adjoint(s: Subject) -> None:
    """Forward and reverse mode are adjoint: <ct, J v> = <J' ct, v>."""
    rng = np.random.default_rng(0)
    session = s.session()
    floats = [k for k, a in s.feeds.items() if a.dtype.kind == "f"]
    wrt = [*session.trainable(), *floats]
    primal = {k: s.feeds.get(k, s.graph.initializers.get(k)) for k in wrt}
    v = {k: rng.normal(size=a.shape).astype(a.dtype) for k, a in primal.items()}
    out, out_dot = session.jvp(s.feeds, v)
    ct = {k: rng.normal(size=a.shape).astype(a.dtype) for k, a in out.items()}
    session.step = 0
    _, pullback = session.vjp(s.feeds, wrt)
    back = pullback(ct)
    left, right = (sum(float(np.vdot(a[k].astype("f8"), b[k].astype("f8"))) for k in a) for a, b in ((ct, out_dot), (back, v)))
    size = sum(np.linalg.norm(ct[k]) * np.linalg.norm(out_dot[k]) for k in ct)
    if not abs(left - right) <= 1e-4 * size:
        raise Wrong(f"<ct, Jv> = {left:.6g}, <J'ct, v> = {right:.6g}, size {size:.3g}")


def fitting(s: Subject) -> None:
    """Adam lowers the loss; the losses under gradient descent follow PyTorch's."""
    ours = _our_losses(s, gr.optim.Adam(5e-3))[1]
    if not ours[-1] < ours[0]:
        raise Wrong(f"Adam: loss {ours[0]:.4g} -> {ours[-1]:.4g}")
    if not s.faithful or (s.entry.fresh and s.variant.mode == "eval") or not s.entry.fresh and (s.folded or _untied(s)):
        return  # other parameters than PyTorch's: another path
    ours = _our_losses(s, gr.optim.SGD(RATE))[1]
    theirs = _torch_losses(s)
    _close("losses under SGD", ours, theirs, 1e-2)


def _untied(s: Subject) -> bool:
    """A parameter is in the graph twice: each copy is trained on its own."""
    held = np.concatenate([p[p >= 0] for p in s.matching.exact.values()])
    return len(np.unique(held)) < len(held)


def _our_losses(s: Subject, optimizer: Any) -> tuple[gr.Trainer, list[float]]:
    s.noise.drawn.clear()
    watching = [s.noise] if s.entry.random else ()
    trainer = gr.Trainer(s.graph, "mean_squared_error", optimizer, output=s.entry.outputs[0], observers=watching)
    batch = s.feeds | {"target": s.target.numpy()}
    return trainer, [trainer.step(batch)["loss"] for _ in range(STEPS)]


def _torch_losses(s: Subject) -> list[float]:
    target = s.target
    with s.reset(True) as run:
        optimizer = torch.optim.SGD(s.module.parameters(), RATE)
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            out = run(*s.inputs.values())
            loss = F.mse_loss(out[0] if isinstance(out, tuple) else out, target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        s.module.zero_grad(set_to_none=True)
    return losses


def saving(s: Subject) -> None:
    """The trained graph goes back to ONNX: the checker accepts it, ONNX Runtime computes the same."""
    trainer, _ = _our_losses(s, gr.optim.Adam(5e-3))
    graph = set_mode(trainer.graph(), get_registry(), mode="infer")
    path = s.path.with_suffix(".back.onnx")
    gr.save(graph, path)
    onnx.checker.check_model(str(path), full_check=True)
    ours = s.session("infer", graph).run(s.feeds)
    for name, a, b in zip(ours, ours.values(), s.run_ort(path, s.feeds), strict=True):
        _close(f"{name} against ORT", a, b, 1e-4)
    back = gr.load(path)
    for name in trainer.trainable:
        if name not in back.initializers or not np.array_equal(back.initializers[name], graph.initializers[name]):
            raise Wrong(f"{name} is lost or changed after a second import")


COLUMNS: Mapping[str, Callable[[Subject], None]] = {
    "load": load, "check": report, "out": outputs, "params": parameters, "grad": gradients, "train": training,
    "jvp": adjoint, "fit": fitting, "save": saving,
}  # fmt: skip
