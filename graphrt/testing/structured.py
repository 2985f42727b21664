"""The checks of ops with subgraphs (If, Loop, Scan, …): run and differentiated inside a graph of one node.

An example's attributes hold the subgraphs; two further keys say what is around the node: ``n_outputs``, and
``outer``: arrays by name that the subgraphs capture.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphrt.ir import OPSET, Graph, Node, Value
from graphrt.manager import get_registry
from graphrt.op import Example, Op
from graphrt.registry import Registry
from graphrt.runtime.session import Session
from graphrt.testing.calls import name_of
from graphrt.testing.differences import mismatch
from graphrt.testing.errors import OpCheckError
from graphrt.testing.values import type_of

Arrays = dict[str, Any]


def has_subgraphs(op: Op) -> bool:
    """Whether the op takes graphs as attributes."""
    return any(a.kind in ("graph", "graphs") for a in op.attributes.values())


def check_structured(op: Op, seed: int, rtol: float, atol: float) -> None:
    """Checks value and both derivative modes of an op with subgraphs at its examples.

    Raises:
        OpCheckError: a run is not repeatable, changes an input, or a derivative is wrong.
    """
    rng = np.random.default_rng(seed)
    examples = [e if isinstance(e, Example) else Example(*e) for e in op.draw_examples(rng)]
    if not examples:
        raise OpCheckError(f"{name_of(op)}: has no examples; declare some with @{op.function.__name__}.examples")
    for i, example in enumerate(examples):
        where = f"{name_of(op)}, example {i}"
        try:
            _check(op, example, where, rng, rtol, atol)
        except OpCheckError:
            raise
        except Exception as e:
            raise OpCheckError(f"{where}: {type(e).__name__}: {e}") from e


def _check(op: Op, example: Example, where: str, rng: np.random.Generator, rtol: float, atol: float) -> None:
    graph, feeds = _one_node(op, example)
    session = Session(graph, registry=_registry_with(op))
    before = {k: _copy(v) for k, v in feeds.items()}
    outputs = _run(session, feeds)
    for again, what in ((_run(session, feeds), "another run"), (before, "")):
        kept = outputs if what else feeds
        for name, x in again.items():
            if not _same(x, kept[name]):
                raise OpCheckError(f"{where}: {f'{what} gives another {name!r}' if what else f'it changes {name!r}'}")
    of = [k for k, v in outputs.items() if _is_float(v)]
    wrt = list(_differentiable(op, graph, feeds))
    if not of or not wrt or not example.smooth:
        return
    cts = {o: rng.normal(size=np.shape(outputs[o])) for o in of}
    dots = {w: rng.normal(size=np.shape(feeds[w])) for w in wrt}
    _, pullback = session.vjp(feeds, wrt, of)
    back = pullback(cts)
    _, tangents = session.jvp(feeds, dots, of)
    for w in wrt:
        if np.shape(back[w]) != np.shape(feeds[w]) or back[w].dtype != feeds[w].dtype:
            raise OpCheckError(f"{where}: the cotangent of {w!r} is {back[w].dtype}{list(np.shape(back[w]))}")
    forward = sum(np.sum(cts[o] * tangents[o]) for o in of)
    backward = sum(np.sum(back[w] * dots[w]) for w in wrt)
    if not np.isclose(forward, backward, rtol=1e-9, atol=1e-10):
        raise OpCheckError(f"{where}: <ct, J v> = {forward}, <J^T ct, v> = {backward}")

    def along(h: float) -> Any:
        moved = _run(session, {**feeds, **{w: feeds[w] + h * dots[w] for w in wrt}})
        return np.concatenate([np.ravel(moved[o]) for o in of])

    found = mismatch(along, np.concatenate([np.ravel(tangents[o]) for o in of]), rtol, atol)
    if found is not None:
        raise OpCheckError(f"{where}: the JVP is off by {found[0]:.3g} from finite differences")


def _one_node(op: Op, example: Example) -> tuple[Graph, Arrays]:
    attributes = dict(example.attributes)
    outer: Arrays = attributes.pop("outer", {})
    count = attributes.pop("n_outputs", len(op.outputs))
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(example.inputs)]
    feeds = {n: x for n, x in zip(names, example.inputs, strict=True) if n} | outer
    outputs = tuple(f"y{i}" for i in range(count))
    graph = Graph(
        op.op_type,
        opset_imports={"": OPSET, "graphrt": 1} | {op.domain: op.version if op.domain else max(op.version, 7)},
        inputs=tuple(Value(n, type_of(x)) for n, x in feeds.items()),
        outputs=tuple(Value(o) for o in outputs),
        nodes=(Node(op.op_type, tuple(names), outputs, attributes, op.domain),),
    )
    return graph, feeds


def _differentiable(op: Op, graph: Graph, feeds: Arrays) -> Iterable[str]:
    bound = op.bind(graph.nodes[0].inputs)
    fixed = {v for k, v in bound.items() if k in op.nondiff}
    return (n for n, x in feeds.items() if n not in fixed and _is_float(x))


def _registry_with(op: Op) -> Registry:
    """The installed registry, with this op put in where it lacks it."""
    installed = get_registry()
    if op in installed.versions(op.op_type, op.domain):
        return installed
    same = (op.domain, op.op_type, op.version)

    def source(kind: str) -> Iterable[tuple[Any, str]]:
        kept: list[Any] = list(installed.table(kind).values())
        if kind == "ops":
            kept = [*(o for o in kept if (o.domain, o.op_type, o.version) != same), op]
        return [(d, "given") for d in kept]

    return Registry(source)


def _run(session: Session, feeds: Arrays) -> Arrays:
    session.step = 0
    return session.run(feeds)


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and x.dtype.kind == "f"


def _copy(x: Any) -> Any:
    return [_copy(v) for v in x] if isinstance(x, list) else None if x is None else np.array(x)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(_same, a, b))
    return a is b or np.array_equal(a, b, equal_nan=getattr(a, "dtype", np.dtype(int)).kind == "f")
