"""What a `Trainer` trains: the model, the graph of one step, the graph that evaluates, the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.definitions import Metric, Optimizer, OptimizerDefinition
from graphrt.errors import InputError
from graphrt.ir import Graph
from graphrt.op import Array
from graphrt.passes.mode import set_mode
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.train.feeding import Feeder, batch_length
from graphrt.train.metrics import MetricTotals
from graphrt.train.objective import LossLike, Objective, Penalties, make_objective
from graphrt.train.step import StepGraph, training_graph
from graphrt.types import dtype_name


@dataclass(frozen=True)
class Setup:
    """Everything about a training that does not change while it runs.

    Attributes:
        model: the graph that is trained; its weights are the initial ones.
        step: one step of it.
        evaluation: the same loss in inference mode.
        metrics: what is measured.
        rate: learning rate of a step: a number, or a function of it.
        target: the name of the targets in batches, or None to tell them from what is left over.
        seed: of shuffles and random ops.
    """

    model: Graph
    step: StepGraph
    evaluation: Objective
    metrics: tuple[Metric, ...]
    rate: float | Callable[[int], float]
    target: str | None
    seed: int

    def feeder(self) -> Feeder:
        """What turns batches into inputs of `step` and `evaluation`."""
        floats = {dtype_name(self.step.graph.initializers[w].dtype) for w in self.step.parameters}
        key = self.target if self.step.target else None
        return Feeder(self.step.graph, self.model, self.step.target, key, floats.pop() if len(floats) == 1 else None)

    @property
    def judged(self) -> str | None:
        """The input that metrics compare the prediction to."""
        return self.step.target or self.target

    def without_weights(self) -> Setup:
        """The same, without the memory of the arrays that training replaces: zeros of their type stand in for them."""
        names = set(self.step.graph.state_updates)

        def emptied(graph: Graph) -> Graph:
            arrays = graph.initializers.items()
            return graph.replace(initializers={k: _stand_in(a) if k in names else a for k, a in arrays})

        return replace(
            self,
            model=emptied(self.model),
            step=replace(self.step, graph=emptied(self.step.graph)),
            evaluation=replace(self.evaluation, graph=emptied(self.evaluation.graph)),
        )

    def count(
        self, totals: MetricTotals, out: Mapping[str, Array], feeds: Mapping[str, Array], evaluating: bool = False
    ) -> None:
        """Adds what a run of `step` (or of `evaluation`) gave for a batch."""
        names = self.evaluation if evaluating else self.step
        loss, n = out[names.loss].item(), batch_length(feeds)
        if self.metrics:
            totals.add(loss, n, out[names.prediction or ""], feeds[self.judged or ""])
        else:
            totals.add(loss, n)


def make_setup(
    graph: Graph,
    registry: Registry,
    loss: LossLike,
    optimizer: Optimizer | OptimizerDefinition | str,
    metrics: Iterable[str | Metric | Callable[..., Any]],
    trainable: Iterable[str],
    penalties: Penalties,
    *,
    clip_norm: float | None,
    seed: int,
    output: str | None,
    loss_output: str | None,
    target: str | None,
) -> Setup:
    """Makes the graphs of a training; see `graphrt.train.Trainer` for the arguments.

    Raises:
        InputError, PluginError, NotDifferentiableError: it cannot be trained like that.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed is a whole number >= 0, not {seed!r}")
    model = graph.replace(initializers={k: np.asarray(a, order="C") for k, a in graph.initializers.items()})
    chosen = _optimizer(registry, optimizer)
    step = training_graph(
        model,
        registry,
        loss,
        chosen,
        trainable=trainable,
        output=output,
        loss_output=loss_output,
        penalties=penalties,
        clip_norm=clip_norm,
    )
    evaluation = make_objective(
        set_mode(model, registry, mode="infer"),
        registry,
        loss,
        output=output,
        loss_output=loss_output,
        penalties=penalties,
        trainable=step.parameters,
        target=step.target,
    )
    found = tuple(_metric(registry, m) for m in ((metrics,) if isinstance(metrics, str) else metrics))
    if len({"loss", *(m.name for m in found)}) <= len(found):
        raise InputError(f"metrics have names of their own, other than 'loss': {', '.join(m.name for m in found)}")
    setup = Setup(model, step, evaluation, found, chosen.learning_rate, target, int(seed))
    if found and (step.prediction is None or setup.judged is None):
        raise InputError("metrics need a prediction and targets: name them with output= and target=")
    return setup


def _stand_in(a: Array) -> Array:
    """Zeros in the place of floats, which no plan looks at; whole numbers and the like may be sizes, and stay."""
    return np.broadcast_to(np.zeros((), a.dtype), a.shape) if a.dtype.kind in "fcV" else a


def _optimizer(registry: Registry, given: Optimizer | OptimizerDefinition | str) -> Optimizer:
    found = registry.get("optimizers", given) if isinstance(given, str) else given
    if isinstance(found, Optimizer):
        return found
    if isinstance(found, OptimizerDefinition):
        return found()
    raise InputError(f"an optimizer is a name or e.g. gr.optim.Adam(1e-3), not {given!r}")


def _metric(registry: Registry, given: str | Metric | Callable[..., Any]) -> Metric:
    if isinstance(given, str):
        found: Metric = registry.get("metrics", given)
        return found
    if isinstance(given, Metric):
        return given
    if callable(given):
        return Metric(getattr(given, "__name__", "metric"), given)
    raise InputError(f"a metric is a name, a Metric or a function of (prediction, target), not {given!r}")
