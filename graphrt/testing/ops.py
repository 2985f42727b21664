"""`check_op`: everything the op contract asks, tried on one op."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np

from graphrt.op import Op
from graphrt.testing.calls import Point, name_of
from graphrt.testing.derivatives import check_adjoint, check_derivatives, check_second_derivatives
from graphrt.testing.errors import OpCheckError
from graphrt.testing.inference import check_infer
from graphrt.testing.points import at_extremes, at_kinks, examples
from graphrt.testing.structured import check_structured, has_subgraphs
from graphrt.testing.values import check_layouts, check_narrow, check_value


def check_op(op: Op, *, seed: int = 0, rtol: float = 1e-5, atol: float = 1e-7) -> None:
    """Tries an op against its whole contract, at its examples and (elementwise ops) at generated points.

    Checked are: outputs as declared, dtypes kept at float32 and float16, inputs untouched, no warning, the
    same result again, no global random state, any memory layout; infer against the values with exact, symbolic
    and unknown types; each VJP and JVP against finite differences and each other, with the inputs' shapes and
    dtypes; second derivatives by running the VJP rules on dual arrays; finite slopes at kinks; silence at extremes.
    Ops with subgraphs are tried in a graph instead, see `graphrt.testing.structured`.

    Args:
        op: what to check.
        seed: of the examples, directions and the generator given to random ops.
        rtol, atol: of finite differences: per element, and as a part of the largest element.

    Raises:
        OpCheckError: the op breaks its contract; the message says where and how.
    """
    if has_subgraphs(op):
        check_structured(op, seed, rtol, atol)
        return
    before = _global_random_state()
    with warnings.catch_warnings(), np.errstate(divide="warn", over="warn", invalid="warn", under="ignore"):
        warnings.simplefilter("error")
        points = _examples(op, seed)
        for i, point in enumerate(points):
            outputs = check_value(point)
            check_infer(point, outputs)
            check_layouts(point, outputs, first=i)
            check_narrow(point, outputs)
            check_derivatives(point, outputs, rtol, atol)
            if point.smooth:
                check_second_derivatives(point, outputs, rtol, atol)
        for point in (*at_kinks(op, seed), *at_extremes(op, seed)):
            check_adjoint(point, check_value(point))
    if _global_random_state() != before:
        raise OpCheckError(f"{name_of(op)}: uses global random state; take the keyword-only parameter rng")


def dual_fallbacks(op: Op) -> tuple[str, ...]:
    """The differentiable inputs whose JVP is made by running the value function on dual arrays."""
    declared = {*op.jvp_rules, *op.derivatives, *(n for group in op.linear for n in group)}
    return tuple(p.name for p in op.inputs if op.is_differentiable(p.name) and p.name not in declared)


def _examples(op: Op, seed: int) -> list[Point]:
    try:
        points = examples(op, seed)
    except Exception as e:
        raise OpCheckError(f"{name_of(op)}: its examples raise {type(e).__name__}: {e}") from e
    if not points:
        raise OpCheckError(f"{name_of(op)}: has no examples; declare some with @{op.function.__name__}.examples")
    return points


def _global_random_state() -> object:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 (to see that nobody uses it)
    name, keys, *rest = numpy_state
    return name, keys.tobytes(), tuple(rest), random.getstate()
