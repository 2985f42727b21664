"""One training step as one graph: forward, loss, penalties, backward, and an optimizer node per parameter.

The new weights and optimizer state are the graph's state updates, so that a `Session` that runs the graph trains:
it keeps the current weights in ``session.parameters``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphrt.autodiff import ReverseGraph, reverse
from graphrt.autodiff.rules import DOMAIN
from graphrt.definitions import OPTIMIZER_DOMAIN, Optimizer
from graphrt.errors import InputError
from graphrt.ir import Graph, NameScope, Node, Value
from graphrt.ir.dag import needed_for
from graphrt.passes.mode import set_mode
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.train.objective import CODES, LossLike, Objective, Penalties, make_objective, trainable_parameters
from graphrt.types import TensorType, dtype_name, numpy_dtype


@dataclass(frozen=True)
class StepGraph:
    """A training step and what its values are called.

    Attributes:
        graph: inputs: the model's, then the target (unless the graph has its own), then `learning_rate` and `step`.
            Outputs: the loss, the prediction where there is one, and ``square``.
        loss: the scalar that is minimized, penalties included.
        prediction: the value that metrics judge, or None.
        target: the input for the targets, or None.
        learning_rate: the input for the learning rate, float [].
        step: the input for the number of the step, int64 [], 1 for the first.
        square: the sum of the squares of all gradients, before any clipping: float []. It is finite if they all are,
            but for numbers so large that their squares are not.
        gradients: trained parameter to its gradient, before any clipping.
        state: trained parameter to its optimizer state: state name to initializer.
    """

    graph: Graph
    loss: str
    prediction: str | None
    target: str | None
    learning_rate: str
    step: str
    square: str
    gradients: Mapping[str, str]
    state: Mapping[str, Mapping[str, str]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The trained parameters."""
        return tuple(self.gradients)


def training_graph(
    graph: Graph,
    registry: Registry,
    loss: LossLike,
    optimizer: Optimizer,
    *,
    trainable: Iterable[str] = ("*",),
    output: str | None = None,
    loss_output: str | None = None,
    penalties: Penalties | None = None,
    clip_norm: float | None = None,
) -> StepGraph:
    """Makes the graph of one training step.

    Args:
        graph: the model; it is switched to training mode.
        registry: where ops, losses and rules are looked up.
        loss, output, loss_output, penalties: see `graphrt.train.objective.make_objective`.
        optimizer: makes the initial state and the update nodes. Its learning rate is not baked in.
        trainable: patterns of initializer names. A parameter that the loss does not depend on is left out.
        clip_norm: scales the gradients down together so that their global norm is at most this.

    Returns:
        The step; its initializers are the model's and the optimizer's state.

    Raises:
        InputError: a pattern matches nothing, nothing is trainable, the loss does not depend on a parameter that was
            named, or see `make_objective`.
        NotDifferentiableError: an op between a parameter and the loss has no rule.
    """
    if clip_norm is not None and not clip_norm > 0:
        raise InputError(f"clip_norm is a number > 0, not {clip_norm!r}")
    patterns = (trainable,) if isinstance(trainable, str) else tuple(trainable)
    forward = set_mode(graph, registry, mode="train")
    chosen = trainable_parameters(forward, patterns)
    objective = make_objective(
        forward, registry, loss, output=output, loss_output=loss_output, penalties=penalties, trainable=chosen
    )
    back = reverse(objective.graph, registry, [objective.loss], chosen, seed_ones=True)
    _check_reached(chosen, back.reached, patterns, objective.loss)
    writer = _StepWriter(objective, back)
    gradients = {w: back.gradients[w] for w in chosen if w in back.reached}
    square, dtype = writer.square(gradients)
    bounded = gradients if clip_norm is None else writer.clip(gradients, square, dtype, clip_norm)
    state = {w: writer.update(w, g, optimizer) for w, g in bounded.items()}
    return StepGraph(
        writer.graph(graph, square),
        objective.loss,
        objective.prediction,
        objective.target,
        writer.learning_rate,
        writer.step,
        square,
        gradients,
        state,
    )


def split_step(step: StepGraph) -> tuple[Graph, Graph]:
    """The step in two graphs, for what has to happen to gradients in between (an average over workers, say).

    Returns:
        The first has the step's inputs without learning rate and step, and returns the loss, the prediction and then
        the gradients; it updates running statistics. The second takes the gradients, learning rate and step, returns
        nothing and updates weights and optimizer state. Both have all initializers: give two sessions one
        ``parameters`` dictionary.
    """
    graph, gradients = step.graph, tuple(step.gradients.values())
    moved = {*step.parameters, *(n for names in step.state.values() for n in names.values())}
    updates = {k: v for k, v in graph.state_updates.items() if k in moved}
    rest = {k: v for k, v in graph.state_updates.items() if k not in moved}
    own = (step.learning_rate, step.step)
    first = graph.replace(
        inputs=tuple(v for v in graph.inputs if v.name not in own),
        outputs=tuple(v for v in graph.outputs if v.name != step.square) + tuple(Value(g) for g in gradients),
        state_updates=rest,
    )
    second = graph.replace(
        inputs=tuple(Value(g) for g in gradients) + tuple(v for v in graph.inputs if v.name in own),
        outputs=(),
        nodes=tuple(n for n in graph.nodes if not set(gradients).intersection(n.outputs)),
        state_updates=updates,
    )
    return _needed(first, [*first.output_names, *rest.values()]), _needed(second, updates.values())


def _needed(graph: Graph, targets: Iterable[str]) -> Graph:
    wanted = needed_for(graph, targets)
    return graph.replace(nodes=tuple(n for i, n in enumerate(graph.nodes) if i in wanted))


def _check_reached(chosen: Sequence[str], reached: frozenset[str], patterns: Sequence[str], loss: str) -> None:
    unused = [w for w in chosen if w not in reached]
    named = [w for w in unused if w in patterns]
    if named or len(unused) == len(chosen):
        which = ", ".join(named or unused)
        raise InputError(f"the loss {loss!r} does not depend on {which}; train other parameters, or another output")


class _StepWriter:
    """Adds optimizer nodes to a differentiated objective."""

    def __init__(self, objective: Objective, back: ReverseGraph):
        self.objective, self.joint, self.back = objective, back.graph, back
        self.scope = NameScope(self.joint.names())
        self.learning_rate, self.step = self.scope.fresh("learning_rate"), self.scope.fresh("step")
        self.nodes = list(self.joint.nodes)
        self.initializers: dict[str, Any] = dict(self.joint.initializers)
        self.updates: dict[str, str] = dict(self.joint.state_updates)
        floats = {a.dtype for w, a in self.initializers.items() if w in back.reached}
        self.rate_dtype = dtype_name(floats.pop()) if len(floats) == 1 else "float64"
        self._casts: dict[tuple[str, str], str] = {}

    def _add(self, op_type: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        name = self.scope.fresh(output)
        self.nodes.append(Node(op_type, tuple(inputs), (name,), attributes, domain))
        return name

    def cast(self, name: str, have: str, want: str) -> str:
        """The value in another float type; itself where it has that type already."""
        if have == want:
            return name
        if (name, want) not in self._casts:
            self._casts[name, want] = self._add("Cast", [name], f"{name}.{want}", to=CODES[want])
        return self._casts[name, want]

    def square(self, gradients: Mapping[str, str]) -> tuple[str, str]:
        """The sum of the squares of all gradients, and its type: the widest of theirs, but float32 at least."""
        dtypes = {w: dtype_name(self.initializers[w].dtype) for w in gradients}
        wide = "float64" if "float64" in dtypes.values() else "float32"
        given = [self.cast(g, dtypes[w], wide) for w, g in gradients.items()]
        return self._add("SumOfSquares", given, "gradient.square", DOMAIN), wide

    def clip(self, gradients: dict[str, str], square: str, dtype: str, limit: float) -> dict[str, str]:
        """``g * min(1, limit / (norm + 1e-6))``, the norm over all gradients together; as PyTorch's clip_grad_norm_."""
        norm = self._add("Sqrt", [square], "gradient.norm")
        offset, bound, one = (self._constant(x, dtype) for x in (1e-6, limit, 1.0))
        ratio = self._add("Div", [bound, self._add("Add", [norm, offset], "gradient.norm.offset")], "clip.ratio")
        factor = self._add("Min", [ratio, one], "clip.factor")
        own = {w: self.cast(factor, dtype, dtype_name(self.initializers[w].dtype)) for w in gradients}
        return {w: self._add("Mul", [g, own[w]], f"{w}.clipped") for w, g in gradients.items()}

    def _constant(self, value: float, dtype: str) -> str:
        return self._add("Constant", [], "constant", value=np.asarray(value, numpy_dtype(dtype)))

    def update(self, w: str, g: str, optimizer: Optimizer) -> dict[str, str]:
        """Adds the optimizer node of one parameter; returns its state: name to initializer."""
        definition, kept = optimizer.definition, optimizer.state
        array = np.asarray(self.initializers[w])
        names = {s: self.scope.fresh(f"{w}.{s}") for s in kept}
        initial = optimizer.init(array)
        self.initializers.update((n, np.asarray(initial[s])) for s, n in names.items())
        new = {s: self.scope.fresh(f"{n}.new") for s, n in names.items()}
        w_new = self.scope.fresh(f"{w}.new")
        rate = self.cast(self.learning_rate, self.rate_dtype, dtype_name(array.dtype))
        inputs = (w, g, rate, self.step, *(names.get(s, "") for s in definition.state))
        outputs = (w_new, *(new.get(s, "") for s in definition.state))
        specs = definition.op.attributes
        settings = {k: float(v) if specs[k].kind == "float" else int(v) for k, v in optimizer.hyperparameters.items()}
        self.nodes.append(Node(definition.name, inputs, outputs, settings, OPTIMIZER_DOMAIN, f"{w}.update"))
        self.updates |= {w: w_new} | {names[s]: new[s] for s in kept}
        return names

    def graph(self, model: Graph, square: str) -> Graph:
        """The finished graph."""
        inputs = list(self.joint.inputs)
        inputs.append(Value(self.learning_rate, TensorType(self.rate_dtype, ())))
        inputs.append(Value(self.step, TensorType("int64", ())))
        outputs = (self.objective.loss, self.objective.prediction)
        unused = {g for w, g in self.back.gradients.items() if w not in self.back.reached}
        return self.joint.replace(
            name=f"{model.name}.step" if model.name else "step",
            opset_imports={**self.joint.opset_imports, OPTIMIZER_DOMAIN: 1, DOMAIN: 1},
            inputs=inputs,
            outputs=(*(v for v in self.joint.outputs if v.name in outputs), Value(square)),
            nodes=tuple(n for n in self.nodes if not unused.issuperset(n.outputs) or not n.outputs),
            initializers=self.initializers,
            state_updates=self.updates,
        )
