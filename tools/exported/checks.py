"""What is checked of one exported file: one function a column of the table.

Each returns nothing when the file passes, and raises `Wrong` (or anything else) when it does not, or `Skip` where
the question does not arise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

import graphrt as gr
from graphrt.check import check
from graphrt.manager import get_registry
from graphrt.passes.mode import set_mode

from .subject import Arrays, Skip, Subject, Wrong
from .zoo import statistics

STEPS, RATE = 20, 0.05

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
    left, right = _inner(ct, out_dot), _inner(back, v)
    size = sum(np.linalg.norm(ct[k]) * np.linalg.norm(out_dot[k]) for k in ct)
    if not abs(left - right) <= 1e-4 * size:
        raise Wrong(f"<ct, Jv> = {left:.6g}, <J'ct, v> = {right:.6g}, size {size:.3g}")


def _inner(a: Arrays, b: Arrays) -> float:
    return sum(float(np.vdot(a[k].astype("f8"), b[k].astype("f8"))) for k in a)


def fitting(s: Subject) -> None:
    """Adam lowers the loss; the losses under gradient descent follow PyTorch's."""
    ours = _our_losses(s, gr.optim.Adam(5e-3))[1]
    if not ours[-1] < ours[0]:
        raise Wrong(f"Adam: loss {ours[0]:.4g} -> {ours[-1]:.4g}")
    if (
        not s.faithful
        or (s.entry.fresh and s.variant.mode == "eval")
        or (not s.entry.fresh and (s.folded or _untied(s)))
    ):
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
