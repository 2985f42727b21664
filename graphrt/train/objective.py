"""What is minimized, as a graph: a model, a loss on one of its outputs, and penalties on its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np

from graphrt.definitions import Loss
from graphrt.errors import InputError
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, NameScope, Value
from graphrt.ir.builder import BuilderValue, GraphBuilder
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.types import DTYPES, TensorType, ValueType, dtype_name

LossLike: TypeAlias = "str | Loss | Callable[..., Any] | None"
"""A loss by name, its definition, a function ``(builder, prediction, target) -> value``, or None when the graph
computes its loss itself."""

CODES = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
"""What the attribute ``to`` of Cast calls the float types."""


@dataclass(frozen=True)
class Penalties:
    """What is added to the loss for large weights: ``l1 * sum(|w|) + l2 / 2 * sum(w^2)``.

    Args:
        l1, l2: factors >= 0.
        on: patterns of parameter names; None means every parameter of rank 2 or more (so no biases).
    """

    l1: float = 0.0
    l2: float = 0.0
    on: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} is a number >= 0, not {value!r}")

    def applies_to(self, graph: Graph, trainable: Sequence[str]) -> tuple[str, ...]:
        """The parameters that are penalized."""
        if not (self.l1 or self.l2):
            return ()
        if self.on is None:
            return tuple(w for w in trainable if graph.initializers[w].ndim >= 2)
        return match_names(self.on, trainable, "penalized")


@dataclass(frozen=True)
class Objective:
    """A graph with its loss.

    Attributes:
        graph: its outputs are the loss and, where there is one, the prediction.
        loss: name of the scalar that is minimized, penalties included.
        prediction: name of the value that the loss and the metrics judge, or None.
        target: name of the input that takes the targets, or None when the graph has its own.
    """

    graph: Graph
    loss: str
    prediction: str | None
    target: str | None


def match_names(patterns: Iterable[str], names: Sequence[str], what: str) -> tuple[str, ...]:
    """The names that any pattern matches and no ``!pattern`` excludes, in their own order.

    Raises:
        InputError: a pattern matches nothing; the message lists the names there are.
    """
    given = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    chosen: set[str] = set()
    excluded: set[str] = set()
    for pattern in given:
        found = {n for n in names if fnmatchcase(n, pattern.removeprefix("!"))}
        if not found and pattern != "*":
            raise InputError(f"the {what} pattern {pattern!r} matches nothing; there are: {', '.join(names) or 'none'}")
        (excluded if pattern.startswith("!") else chosen).update(found)
    if all(p.startswith("!") for p in given):
        chosen = set(names)
    return tuple(n for n in names if n in chosen and n not in excluded)


def trainable_parameters(graph: Graph, patterns: Iterable[str] = ("*",)) -> tuple[str, ...]:
    """The float initializers that the patterns choose; never running statistics or inputs' defaults.

    Args:
        graph: switched to training, so that its state updates name the running statistics.
        patterns: shell-style patterns of initializer names; ``!pattern`` excludes.

    Raises:
        InputError: a pattern matches nothing, or nothing is left to train.
    """
    fixed = {*graph.state_updates, *graph.input_names}
    kinds = {k: dtype_name(a.dtype) for k, a in graph.initializers.items()}
    names = tuple(k for k, d in kinds.items() if k not in fixed and DTYPES[d].kind == "f")
    chosen = match_names(patterns, names, "trainable")
    if not chosen:
        raise InputError(f"nothing to train: the patterns leave none of the parameters {', '.join(names) or '(none)'}")
    return chosen


def make_objective(
    graph: Graph,
    registry: Registry,
    loss: LossLike,
    *,
    output: str | None = None,
    loss_output: str | None = None,
    penalties: Penalties | None = None,
    trainable: Sequence[str] = (),
    target: str | None = None,
) -> Objective:
    """Adds a loss and penalties to a model.

    Args:
        graph: the model, in the mode it shall run in.
        registry: where a loss is looked up by its name.
        loss: see `LossLike`.
        output: the value that is the prediction (default: the only output); any value may be named, such as
            the scores before a final Softmax.
        loss_output: with ``loss=None``, the output that is the loss (default: the only output, or ``"loss"``).
        penalties: on weights.
        trainable: the parameters that may be penalized.
        target: name of the input for the targets (default: ``target``, or another that is free).

    Raises:
        InputError: the prediction or loss cannot be told, or does not exist; the loss is not one number.
        PluginError: no loss has this name.
    """
    known = infer(graph, registry)
    if loss is None:
        value = _own_loss(graph, loss_output)
        others = [o for o in graph.output_names if o != value]
        prediction = _value(graph, output) if output else others[0] if len(others) == 1 else None
        b = GraphBuilder.extending(graph)
        total, goal = BuilderValue(b, value, _float_dtype(known, value)), None
    else:
        prediction = _prediction(graph, output)
        definition = registry.get("losses", loss) if isinstance(loss, str) else loss
        b = GraphBuilder.extending(graph)
        goal = target or NameScope(graph.names()).fresh("target")
        kind = _target_type(definition, known.type(prediction))
        t = b.input(goal, kind.dtype, kind.shape)
        function = definition.function if isinstance(definition, Loss) else definition
        total = function(b, BuilderValue(b, prediction, _float_dtype(known, prediction)), t)
        total = BuilderValue(b, b.value(total).name, _float_dtype(known, prediction))
    penalties = penalties or Penalties()
    total = _penalized(b, total, penalties, penalties.applies_to(graph, trainable), graph)
    total = _scalar(b, graph, registry, total)
    made = b.build(value_info=graph.value_info, metadata=graph.metadata, requires=graph.requires)
    values = [total.name] + ([prediction] if prediction and prediction != total.name else [])
    return Objective(made.replace(outputs=tuple(Value(v) for v in values)), total.name, prediction, goal)


def _penalized(b: GraphBuilder, total: BuilderValue, p: Penalties, on: Sequence[str], graph: Graph) -> BuilderValue:
    terms: list[Any] = []
    for name in on:
        dtype = dtype_name(graph.initializers[name].dtype)
        w = BuilderValue(b, name, dtype)
        sums = [(p.l2 / 2, "ReduceSumSquare", w), (p.l1, "ReduceL1", w)]
        made = [b.op(op, x, keepdims=0, name=f"{name}.penalty") * b.constant(f, dtype) for f, op, x in sums if f]
        terms += made if dtype == total.dtype else [b.Cast(m, to=CODES[total.dtype or "float32"]) for m in made]
    for term in terms:
        total = BuilderValue(b, b.op("Add", total, term, name="objective").name, total.dtype)
    return total


def _prediction(graph: Graph, output: str | None) -> str:
    if output is not None:
        return _value(graph, output)
    if len(graph.outputs) != 1:
        raise InputError(
            f"name the prediction with output=: the graph has the outputs {', '.join(graph.output_names) or 'none'}"
        )
    return graph.output_names[0]


def _value(graph: Graph, name: str) -> str:
    if name not in graph.names():
        raise InputError(f"the graph has no value {name!r}; its outputs are: {', '.join(graph.output_names) or 'none'}")
    return name


def _own_loss(graph: Graph, loss_output: str | None) -> str:
    if loss_output is not None:
        return _value(graph, loss_output)
    names = graph.output_names
    if len(names) == 1 or "loss" in names:
        return "loss" if "loss" in names else names[0]
    raise InputError(f"without a loss, name the output that is it with loss_output=: {', '.join(names) or 'none'}")


def _target_type(definition: Any, prediction: ValueType) -> TensorType:
    if not isinstance(definition, Loss) or not isinstance(prediction, TensorType):
        return TensorType(getattr(definition, "target_dtype", None))
    shape = prediction.shape
    if shape is not None and definition.target_rank == -1:
        if len(shape) < 2:
            raise InputError(
                f"the loss {definition.name!r} takes predictions [batch, classes, ...], the model gives {prediction}; "
                f"choose another loss, or another output"
            )
        shape = (shape[0], *shape[2:])
    elif definition.target_rank != 0:
        shape = None
    return TensorType(definition.target_dtype or prediction.dtype, shape)


def _float_dtype(known: Inferred, value: str) -> str:
    t = known.type(value)
    return t.dtype if isinstance(t, TensorType) and t.dtype else "float32"


def _scalar(b: GraphBuilder, graph: Graph, registry: Registry, total: BuilderValue) -> BuilderValue:
    """The loss as a scalar; where its shape is not known, a node that fails on several elements makes it one."""
    t = infer(b.build(value_info=graph.value_info), registry).type(total.name)
    shape = t.shape if isinstance(t, TensorType) else None
    if shape == ():
        return total
    if shape is not None and any(isinstance(d, int) and d != 1 for d in shape):
        raise InputError(f"the loss {total.name!r} is {t}: one number is needed; reduce it with a mean or a sum")
    made: BuilderValue = b.Reshape(total, b.constant(np.zeros(0, np.int64)), name=f"{total.name}.scalar")
    return made
