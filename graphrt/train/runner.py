"""Runs the graph of a step, and takes a step back that made a NaN or an infinity."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from graphrt.definitions import OPTIMIZER_DOMAIN
from graphrt.errors import NonFiniteError
from graphrt.op import Array
from graphrt.registry import Registry
from graphrt.runtime.interpreter import Plan
from graphrt.runtime.observers import Observer
from graphrt.runtime.session import Session
from graphrt.train.diagnosis import find_origin, is_finite
from graphrt.train.setup import Setup
from graphrt.types import numpy_dtype

Arrays = dict[str, Array]
_HARMLESS = 1e15
"""Where the learning rate and the sum of the squared gradients are below this, no update makes an infinity."""


class _NotFinite(Exception):
    """The step is not to update anything; the message says what is not finite."""


class StepRunner:
    """A session on the graph of a step: its parameters are the current weights and optimizer state.

    A step whose loss or gradients are not finite is given up before the optimizer's nodes run, which write over the
    weights. What an update itself can break (with numbers near the largest there are) shows in the loss of the step
    after it; for that case the state before it is kept.

    Args:
        setup: what to train.
        registry: where ops are looked up.
        observers: watch each node of each step.
        step: how many steps are done.
        rate_scale: a factor on the learning rate.
        memory_limit: of a step, see `graphrt.runtime.session.Session`.
    """

    def __init__(
        self,
        setup: Setup,
        registry: Registry,
        observers: Iterable[Observer],
        step: int,
        rate_scale: float,
        memory_limit: int | str | None = None,
    ):
        self._setup, self._registry = setup.without_weights(), registry
        self.session = Session(
            setup.step.graph,
            observers=observers,
            seed=setup.seed,
            registry=registry,
            in_place=True,
            memory_limit=memory_limit,
        )
        self.session.graph = self._setup.step.graph  # the weights are the session's parameters now
        self.session.step, self.rate_scale, self.last_rate = step, rate_scale, math.nan
        names = setup.step
        self._loss, self._rate, self._step = names.loss, names.learning_rate, names.step
        self._square = names.square
        updates = [n for n in names.graph.nodes if n.domain == OPTIMIZER_DOMAIN]
        self._gradients = {n.inputs[0]: n.inputs[1] for n in updates}
        updated = (*names.state, *(n for state in names.state.values() for n in state.values()))
        self._new = {n: names.graph.state_updates[n] for n in updated}
        kind: Any = next(v.type for v in names.graph.inputs if v.name == self._rate)
        self._rate_dtype = numpy_dtype(kind.dtype)
        self._before: Arrays | None = None
        self._last: tuple[Arrays, Mapping[str, Array], int] | None = None

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        rate = self._setup.rate
        return self.rate_scale * (float(rate(self.session.step + 1)) if callable(rate) else rate)

    def advance(self, feeds: Mapping[str, Array]) -> Arrays:
        """One step: the loss and the prediction before its update.

        Raises:
            NonFiniteError: the loss is NaN or infinite; the weights are as before the step that made it so.
        """
        session = self.session
        at, self.last_rate = session.step, self.learning_rate
        fed = self._fed(feeds, self.last_rate)
        self._before = None
        try:
            out = session.run(fed, before_update=self._permit)
        except _NotFinite as e:
            self._fail(session.parameters, fed, at, str(e))
        self._last = None if self._before is None else (self._before, fed, at)
        return out

    def _fed(self, feeds: Mapping[str, Array], rate: float) -> Arrays:
        step = np.asarray(self.session.step + 1, np.int64)
        return {**feeds, self._rate: np.asarray(rate, self._rate_dtype), self._step: step}

    def plan(self, feeds: Mapping[str, Array]) -> Plan:
        """The plan that `advance` would walk."""
        return self.session.plan(self._fed(feeds, self.learning_rate))

    def _permit(self, read: Callable[[str], Any], overwritten: Collection[str]) -> None:
        """Lets the weights be updated, or raises; keeps those that the update may break beyond repair."""
        loss = read(self._loss).item()
        if not math.isfinite(loss):
            raise _NotFinite(f"the loss is {loss}")
        square = read(self._square).item()
        if not square < _HARMLESS:
            used = (read(g) for w, g in self._gradients.items() if w in overwritten)
            if not all(map(is_finite, used)):
                raise _NotFinite("a gradient is not finite")
        if len(overwritten) < len(self._new):
            others = (read(new) for old, new in self._new.items() if old not in overwritten)
            sound = all(map(_is_sound, others))
        else:
            sound = True
        if not (sound and square < _HARMLESS and self.last_rate < _HARMLESS):
            before = self.session.parameters
            self._before = {**before, **{n: before[n].copy() for n in overwritten}}

    def check_weights(self) -> None:
        """Takes the last step back if its update broke the weights, which no loss has shown yet.

        Raises:
            NonFiniteError: it did.
        """
        if self._last is not None and not all(map(is_finite, self.session.parameters.values())):
            self._fail(self.session.parameters, {}, self.session.step, "")

    def replace(self, parameters: Mapping[str, Array]) -> None:
        """Replaces some parameters."""
        self.session.parameters = {**self.session.parameters, **parameters}
        self._last = None

    def _fail(self, before: Arrays, fed: Mapping[str, Array], at: int, what: str) -> NoReturn:
        """Undoes the step, or the one before it if that broke the weights already, and says where it came from."""
        if self._last is not None and not all(map(is_finite, before.values())):
            before, fed, at = self._last
            what = "the new weights are not finite"
        session = self.session
        session.parameters, session.step, self._last = before, at, None
        graph = self._setup.step.graph  # without the square of large numbers, where nothing else reads it
        graph = graph.replace(outputs=tuple(v for v in graph.outputs if v.name != self._square))
        origin = find_origin(graph, self._registry, self._setup.seed, at, before, fed)
        raise NonFiniteError(
            f"step {at + 1}: {what}: {origin}\nthe weights are as before that step; "
            f"try a smaller learning rate, clip_norm=, or look at the data of this batch"
        )


def _is_sound(x: Array) -> bool:
    """Whether an array holds no NaN or infinity; quicker than `is_finite` where its numbers are not too large."""
    return math.isfinite(_square(x)) or is_finite(x)


def _square(x: Array) -> float:
    """The sum of the squares; infinite or NaN if an element is, or if it is too large."""
    flat = x.reshape(-1)
    return float(np.dot(flat, flat))
