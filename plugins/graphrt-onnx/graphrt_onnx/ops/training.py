"""The domain ai.onnx.preview.training: optimizer steps as ops, and Gradient nodes written out as graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from graphrt.autodiff import reverse
from graphrt.inference import infer
from graphrt.ir import NameScope
from graphrt.plugin import Array, ConversionError, Graph, Node, TensorType, Value, op
from graphrt.registry import Registry

DOMAIN = "ai.onnx.preview.training"

_step = partial(op, domain=DOMAIN, outputs=("*new",), nondiff=True)


def _each(inputs: tuple[Array, ...], kinds: int, step: Callable[..., tuple[Array, ...]]) -> tuple[Array, ...]:
    """Runs a step per tensor; inputs and outputs list all tensors of one kind before the next kind."""
    if not inputs or len(inputs) % kinds:
        raise ValueError(f"after r and t come {kinds} equally long lists of tensors; there are {len(inputs)} tensors")
    n = len(inputs) // kinds
    done = [step(*inputs[i::n]) for i in range(n)]
    return tuple(new for kind in zip(*done, strict=True) for new in kind)


def _like(x: Array, new: Array) -> Array:
    return new.astype(x.dtype, copy=False)


@_step("Adagrad")
def adagrad(
    r: Array, t: Array, *inputs: Array, decay_factor: float = 0.0, epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """One step of Adagrad.

    r: float [], learning rate; t: int64 [], updates so far; then n tensors x, n gradients g, n sums of squares h, each
    float [...] -> n new x, n new h. With g' = g + norm_coefficient x: h = h + g'^2,
    x = x - r/(1 + t decay_factor) g'/(sqrt(h) + epsilon). No gradient flows through a step.
    Source: ONNX training operator spec; Duchi et al. 2011.
    """
    rate = r / (1 + t * decay_factor)

    def step(x: Array, g: Array, h: Array) -> tuple[Array, Array]:
        g = norm_coefficient * x + g
        h_new = h + g * g
        return _like(x, x - rate * g / (np.sqrt(h_new) + epsilon)), _like(h, h_new)

    return _each(inputs, 3, step)


@_step("Momentum")
def momentum(
    r: Array, t: Array, *inputs: Array, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> tuple[Array, ...]:
    """One step of stochastic gradient descent with momentum.

    r: float [], learning rate; t: int64 [], updates so far; then n tensors x, n gradients g, n momenta v, each
    float [...] -> n new x, n new v. With g' = g + norm_coefficient x and beta = 1 at t = 0: v = alpha v + beta g', then
    x = x - r v (mode "standard") or x - r (g' + alpha v) ("nesterov"). No gradient flows through a step.
    Source: ONNX training operator spec.
    """
    if mode not in ("standard", "nesterov"):
        raise ValueError(f"mode is 'standard' or 'nesterov', not {mode!r}")
    scale = beta if t > 0 else 1.0

    def step(x: Array, g: Array, v: Array) -> tuple[Array, Array]:
        g = norm_coefficient * x + g
        v_new = alpha * v + scale * g
        way = v_new if mode == "standard" else g + alpha * v_new
        return _like(x, x - r * way), _like(v, v_new)

    return _each(inputs, 3, step)


@_step("Adam")
def adam(
    r: Array, t: Array, *inputs: Array, alpha: float = 0.9, beta: float = 0.999, epsilon: float = 1e-6,
    norm_coefficient: float = 0.0, norm_coefficient_post: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """One step of Adam.

    r: float [], learning rate; t: int64 [], updates so far; then n tensors x, n gradients g, n averages v of gradients,
    n averages h of squares, each float [...] -> n new x, n new v, n new h. With g' = g + norm_coefficient x:
    v = alpha v + (1-alpha) g', h = beta h + (1-beta) g'^2, r' = r sqrt(1-beta^t)/(1-alpha^t) where t > 0,
    x = (1 - norm_coefficient_post) (x - r' v/(sqrt(h) + epsilon)). No gradient flows through a step.
    Source: ONNX training operator spec; Kingma and Ba 2015.
    """
    count = float(t)
    rate = r * (np.sqrt(1 - beta**count) / (1 - alpha**count)) if count > 0 else r

    def step(x: Array, g: Array, v: Array, h: Array) -> tuple[Array, Array, Array]:
        g = norm_coefficient * x + g
        v_new = alpha * v + (1 - alpha) * g
        h_new = beta * h + (1 - beta) * g * g
        x_new = (1 - norm_coefficient_post) * (x - rate * v_new / (np.sqrt(h_new) + epsilon))
        return _like(x, x_new), _like(v, v_new), _like(h, h_new)

    return _each(inputs, 4, step)


@adagrad.infer
@momentum.infer
def _(inputs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    n = len(inputs) // 3
    return (*inputs[:n], *inputs[2 * n :])


@adam.infer
def _(inputs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    n = len(inputs) // 4
    return (*inputs[:n], *inputs[2 * n :])


def _tensors(rng: np.random.Generator, kinds: int) -> tuple[Array, ...]:
    return tuple(np.abs(rng.normal(size=shape)) for _ in range(kinds) for shape in ((2, 3), (4,)))


@adagrad.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array(0.1), np.array(3), *_tensors(rng, 3)), {"decay_factor": 0.1, "norm_coefficient": 0.01}
    yield (np.array(0.1), np.array(0), *(np.ones(()) for _ in range(3))), {"epsilon": 1e-3}


@momentum.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for mode in ("standard", "nesterov"):
        for t in (0, 2):
            attributes = {"alpha": 0.9, "beta": 0.5, "mode": mode, "norm_coefficient": 0.01}
            yield (np.array(0.1), np.array(t), *_tensors(rng, 3)), attributes


@adam.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array(0.1), np.array(0), *_tensors(rng, 4)), {}
    yield (np.array(0.1), np.array(5), *_tensors(rng, 4)), {"norm_coefficient": 0.01, "norm_coefficient_post": 0.1}


# ---- Gradient ------------------------------------------------------------------------------------------------


def expand_gradient_nodes(graph: Graph, registry: Registry) -> Graph:
    """Replaces every Gradient node by the nodes of reverse mode that compute its outputs.

    A node ``Gradient(xs, zs; y)`` gives dy/dx for each x, at the values its inputs have; where these are the
    tensors named in ``xs`` and ``zs`` themselves, the graph's own forward values are used. Of a ``y`` that is no
    scalar it is the gradient of the sum.

    Args:
        graph: any graph; one without Gradient nodes is returned as it is.
        registry: where the derivative rules are looked up.

    Raises:
        ConversionError: a node's attributes or inputs do not fit, or ``y`` is itself made from a Gradient node.
    """
    waiting = [n for n in graph.nodes if n.op_type == "Gradient" and n.domain == DOMAIN]
    if not waiting:
        return graph
    scope = NameScope(graph.names())
    plain = graph.replace(nodes=[n for n in graph.nodes if n not in waiting])
    known = infer(plain.replace(outputs=()), registry, on_error=lambda node, error: None).types
    nodes, initializers, opsets = list(plain.nodes), dict(graph.initializers), dict(graph.opset_imports)
    for node in waiting:
        joint, names = _joint(plain, node, known, registry)
        renaming = _renaming(joint, node, names, plain, scope)
        have = {o for n in nodes for o in n.outputs if o}
        for made in joint.nodes:
            renamed = _renamed(made, renaming)
            if not any(o in have for o in renamed.outputs):
                nodes.append(renamed)
        initializers.update((renaming[k], v) for k, v in joint.initializers.items() if renaming.get(k, k) != k)
        opsets = {**joint.opset_imports, **opsets}
    opsets.pop(DOMAIN, None)
    if any(n.domain == DOMAIN for n in nodes):
        opsets[DOMAIN] = graph.opset_imports[DOMAIN]
    return graph.replace(nodes=nodes, initializers=initializers, opset_imports=opsets)


def _joint(plain: Graph, node: Node, known: Mapping[str, Any], registry: Registry) -> tuple[Graph, list[str]]:
    """The joint graph of the part that makes y from xs and zs, and xs followed by zs."""
    attributes = dict(node.attributes)
    given: list[Any] = [attributes.get(k, ()) for k in ("xs", "zs")]
    xs, zs, y = tuple(given[0]), tuple(given[1]), str(attributes.get("y", ""))
    names = [str(n) for n in (*xs, *zs)]
    if not xs or len(node.inputs) != len(names):
        raise ConversionError(
            f"node {node.label!r}: Gradient has one input per name in xs and zs: {names}, not {node.inputs}"
        )
    free = [Value(n, known.get(n, TensorType())) for n in names]
    others = [v for v in plain.inputs if v.name not in names]
    part = plain.replace(
        inputs=[*free, *others],
        outputs=[Value(y, known.get(y, TensorType()))],
        nodes=[n for n in plain.nodes if not any(o in names for o in n.outputs)],
        initializers={k: v for k, v in plain.initializers.items() if k not in names},
        state_updates={},
    )
    if y not in part.names() or part.captured():
        missing = ", ".join(part.captured()) or y
        raise ConversionError(
            f"node {node.label!r}: y = {y!r} cannot be made from xs and zs {names} alone; missing: {missing} (a "
            f"gradient of a gradient is not supported: differentiate the first one with Session.hvp)"
        )
    found = reverse(part, registry, [y], list(xs), keep_outputs=False, seed_ones=True)
    gradients = [found.gradients[x] for x in xs]
    nodes = list(found.graph.nodes)
    renamed = {g: o for g, o in zip(gradients, node.outputs, strict=False) if o}
    for x, g in zip(xs, gradients, strict=True):
        if gradients.count(g) > 1 or g in part.names():  # one value is several gradients, or a forward value
            out = next((o for x2, o in zip(xs, node.outputs, strict=False) if x2 == x and o), "")
            renamed.pop(g, None)
            if out:
                nodes.append(Node("Identity", (g,), (out,)))
    return found.graph.replace(nodes=[_renamed(n, renamed) for n in nodes]), names


def _renaming(joint: Graph, node: Node, names: list[str], plain: Graph, scope: NameScope) -> dict[str, str]:
    """Old value name to new: inputs become the node's; forward values stay where its inputs are the named tensors."""
    outputs = set(node.outputs)
    renaming = dict(zip(names, node.inputs, strict=True))
    same = tuple(names) == tuple(node.inputs)
    forward = plain.names()
    for made in joint.nodes:
        for o in made.outputs:
            if o and o not in outputs and not (same and o in forward):
                renaming[o] = scope.fresh(o)
    for name in joint.initializers:
        if name not in forward:
            renaming[name] = scope.fresh(name)
    return renaming


def _renamed(node: Node, renaming: Mapping[str, str]) -> Node:
    return Node(
        node.op_type, tuple(renaming.get(i, i) for i in node.inputs), tuple(renaming.get(o, o) for o in node.outputs),
        node.attributes, node.domain, node.name,
    )  # fmt: skip


OPS = (adagrad, adam, momentum)
