"""Runs the graph of a step, and takes a step back that made a NaN or an infinity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphrt.errors import NonFiniteError
from graphrt.op import Array
from graphrt.registry import Registry
from graphrt.runtime.observers import Observer
from graphrt.runtime.session import Session
from graphrt.train.diagnosis import find_origin, is_finite
from graphrt.train.setup import Setup
from graphrt.types import numpy_dtype

Arrays = dict[str, Array]


class StepRunner:
    """A session on the graph of a step: its parameters are the current weights and optimizer state.

    The state before the last step and that step's inputs are kept. An infinite gradient breaks the weights while
    the loss is still finite; when the next loss shows it, both steps are taken back and the first is explained.

    Args:
        setup: what to train.
        registry: where ops are looked up.
        observers: watch each node of each step.
        step: how many steps are done.
        rate_scale: a factor on the learning rate.
    """

    def __init__(self, setup: Setup, registry: Registry, observers: Iterable[Observer], step: int, rate_scale: float):
        self._setup, self._registry = setup, registry
        self.session = Session(setup.step.graph, observers=observers, seed=setup.seed, registry=registry)
        self.session.step, self.rate_scale, self.last_rate = step, rate_scale, math.nan
        names = setup.step
        self._loss, self._rate, self._step = names.loss, names.learning_rate, names.step
        kind: Any = next(v.type for v in names.graph.inputs if v.name == self._rate)
        self._rate_dtype = numpy_dtype(kind.dtype)
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
        fed = dict(feeds)
        fed[self._rate] = np.asarray(self.last_rate, self._rate_dtype)
        fed[self._step] = np.asarray(at + 1, np.int64)
        before = session.parameters.copy()
        out = session.run(fed)
        loss = out[self._loss].item()
        if not math.isfinite(loss):
            self._fail(before, fed, at, f"the loss is {loss}")
        self._last = (before, fed, at)
        return out

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

    def _fail(self, before: Arrays, fed: Mapping[str, Array], at: int, what: str) -> None:
        """Undoes the step, or the one before it if that broke the weights already, and says where it came from."""
        if self._last is not None and not all(map(is_finite, before.values())):
            before, fed, at = self._last
            what = "the new weights are not finite"
        session = self.session
        session.parameters, session.step, self._last = before, at, None
        origin = find_origin(self._setup.step.graph, self._registry, self._setup.seed, at, before, fed)
        raise NonFiniteError(
            f"step {at + 1}: {what}: {origin}\nthe weights are as before that step; "
            f"try a smaller learning rate, clip_norm=, or look at the data of this batch"
        )
