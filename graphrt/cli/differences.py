"""Compares a gradient with central differences over a range of step sizes.

``(f(x+h) - f(x-h)) / 2h`` has two errors: truncation, which falls as h squared, and cancellation, which grows
as eps |f| / h. So no step is right for every function, and the best one cannot reach full precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from graphrt.records import dataclass
from graphrt.runtime.session import Session

STEPS = tuple(10.0**-k for k in range(1, 16))
"""The step sizes tried."""
MOST_DIRECTIONS = 32
"""Up to so many elements are each moved alone; more are moved together, along this many random directions."""


@dataclass(frozen=True)
class StepError:
    """One step size: the largest error over all directions, relative to the gradient where that exceeds 1."""

    step: float
    error: float
    dominates: str


@dataclass(frozen=True)
class CheckResult:
    """The errors of all step sizes, the best of them, and whether its error is as small as it should be."""

    steps: tuple[StepError, ...]
    best: StepError
    agrees: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{"step": s.step, "error": s.error, "dominates": s.dominates} for s in self.steps]
        return {"agrees": self.agrees, "best_step": self.best.step, "best_error": self.best.error, "steps": rows}


def check_gradient(
    session: Session, at: Mapping[str, Any], of: str | None, gradient: Mapping[str, Any], *, seed: int = 0
) -> CheckResult:
    """Compares a gradient with central differences along directions.

    Args:
        session: what was differentiated; its random state and parameters are put back after each evaluation.
        at: the inputs.
        of: the value (None: the only output).
        gradient: input or initializer name to derivative.
        seed: of the random directions.
    """
    origin = {n: np.array(at[n] if n in at else session.parameters[n], dtype=g.dtype) for n, g in gradient.items()}
    of = session.graph.output_names[0] if of is None else of
    eps = max((float(np.finfo(g.dtype).eps) for g in gradient.values()), default=2.0**-52)
    value = _Value(session, at, of)
    errors = np.zeros(len(STEPS))
    noise = np.zeros(len(STEPS))
    for direction in _directions(origin, np.random.default_rng(seed)):
        exact = sum(float(np.sum(gradient[n] * d, dtype=np.float64)) for n, d in direction.items())
        scale = max(1.0, abs(exact))
        for i, h in enumerate(STEPS):
            high, low = (value({n: origin[n] + s * h * d for n, d in direction.items()}) for s in (1, -1))
            error = abs((high - low) / (2 * h) - exact) / scale
            errors[i] = max(errors[i], error if np.isfinite(error) else np.inf)
            noise[i] = max(noise[i], eps * max(abs(high), abs(low)) / (h * scale))
    best = int(np.argmin(errors))
    steps = tuple(StepError(h, float(errors[i]), _dominates(i, best, errors[i], noise[i])) for i, h in enumerate(STEPS))
    return CheckResult(steps, steps[best], bool(errors[best] <= 100 * eps ** (2 / 3)))


def _dominates(i: int, best: int, error: float, noise: float) -> str:
    if error == 0:
        return "exact"
    return "cancellation" if i > best or error <= noise else "truncation"


def _directions(origin: Mapping[str, Any], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Each element alone, or random directions of length 1 when there are many elements."""
    count = sum(a.size for a in origin.values())
    if count <= MOST_DIRECTIONS:
        for name, a in origin.items():
            for i in range(a.size):
                one = np.zeros(a.size, a.dtype)
                one[i] = 1
                yield {name: one.reshape(a.shape)}
        return
    for _ in range(MOST_DIRECTIONS):
        drawn = {n: rng.standard_normal(a.shape) for n, a in origin.items()}
        length = np.sqrt(sum(float(np.sum(d * d)) for d in drawn.values()))
        yield {n: (d / length).astype(origin[n].dtype) for n, d in drawn.items()}


class _Value:
    """The value as a function of some inputs and weights; each call leaves the session as it was."""

    def __init__(self, session: Session, at: Mapping[str, Any], of: str):
        self.session, self.at, self.of = session, at, of

    def __call__(self, moved: Mapping[str, Any]) -> float:
        s = self.session
        step, parameters = s.step, dict(s.parameters)
        inputs = {k: v for k, v in moved.items() if k in s.graph.input_names}
        s.parameters.update((k, v) for k, v in moved.items() if k not in inputs)
        try:
            with np.errstate(all="ignore"):
                return float(np.asarray(s.run({**self.at, **inputs}, [self.of])[self.of]).reshape(()))
        finally:
            s.step = step
            s.parameters.update(parameters)
