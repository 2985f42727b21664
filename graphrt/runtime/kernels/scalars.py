"""Single float64 numbers by Python's own arithmetic: groups of nodes as one function, and nodes alone.

One number takes NumPy a few hundred nanoseconds, almost all of it for the call; a statement of Python takes a tenth of
that. So the nodes of a group are written out as the statements of a function of floats. A node that is alone is a group
of one, so its bits do not depend on what runs beside it. Where Python raises an exception (1 / 0, exp(1000)), the same
code runs again with numbers of NumPy, which follow IEEE 754.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from graphrt.definitions import Into, Kernel, KernelSite, kernel
from graphrt.ir import Graph, Node
from graphrt.manager import get_registry
from graphrt.op import Array
from graphrt.runtime.formulas import FILLS, OPS, formula, takes_attributes
from graphrt.runtime.fusion import ALIASES, is_scalar
from graphrt.runtime.kernels._scalar_functions import COMPOSED, ELEMENTARY

Function = Callable[..., tuple[float, ...]]


def _ieee(function: Callable[..., float], ufunc: np.ufunc) -> Callable[..., Any]:
    """A function that gives the infinity or NaN where Python raises an exception."""

    def call(*numbers: float) -> Any:
        try:
            return np.float64(function(*numbers))
        except (ArithmeticError, ValueError):
            return ufunc(*numbers)

    return call


_FLOATS: dict[str, Any] = {name: f for name, (f, _) in ELEMENTARY.items()} | COMPOSED
_FLOATS |= {"F": float, "ZERO": 0.0, "ONE": 1.0}
_NUMBERS: dict[str, Any] = {name: _ieee(*both) for name, both in ELEMENTARY.items()}
_NUMBERS |= {name: lambda *x, f=f: np.float64(f(*x)) for name, f in COMPOSED.items()}
_NUMBERS |= {"F": np.float64, "ZERO": np.float64(0), "ONE": np.float64(1)}


def functions_of(statements: Sequence[str], count: int, outputs: Sequence[str]) -> tuple[Function, Function]:
    """The function of some numbers that is made of statements: of Python's floats, and of NumPy's.

    Args:
        statements: ``name = expression``, in order; the inputs are called x0, x1, ...
        count: how many inputs there are.
        outputs: the names of what is returned.
    """
    head = f"def run({', '.join(f'x{i}' for i in range(count))}):"
    text = "\n ".join([head, *statements, f"return ({', '.join(outputs)},)"])
    code = compile(text, "scalars", "exec")
    spaces = {**_FLOATS}, {**_NUMBERS}
    for space in spaces:
        exec(code, space)
    return spaces[0]["run"], spaces[1]["run"]


def _into(
    site: KernelSite, functions: tuple[Function, Function], count: int, over: tuple[int, ...] = ()
) -> Into | None:
    """What calls a function with the arrays of a site, ``count`` of which are inputs."""
    run, run_ieee = functions

    def fill(*arrays: Array) -> None:
        numbers = [float(x) for x in arrays[:count] if x is not None]
        try:
            made = run(*numbers)
        except (ArithmeticError, ValueError):
            made = run_ieee(*map(np.float64, numbers))
        for y, number in zip(arrays[count:], made, strict=True):
            y[()] = number

    return site.into(fill, over={0: over})


# ---- groups ------------------------------------------------------------------------------------------------


@kernel("FusedScalars", domain="graphrt")
def scalars(site: KernelSite) -> Into | None:
    """All nodes of the body in one function."""
    body: Graph = site.attributes["body"]
    if not all(map(is_scalar, (*site.inputs["inputs"], *site.outputs))):
        return None
    names = {name: f"x{i}" for i, name in enumerate(body.input_names)}
    statements = []
    for i, node in enumerate(body.nodes):
        text = formula(node.op_type, [names.get(n, "") for n in node.inputs], attributes_of(node, body))
        names[node.outputs[0]] = f"y{i}"
        statements.append(f"y{i} = {text}")
    functions = functions_of(statements, len(body.inputs), [names[o] for o in body.output_names])
    return _into(site, functions, len(body.inputs))


def attributes_of(node: Node, body: Graph) -> Mapping[str, Any]:
    """The attributes of a node of a group with the defaults filled in, if its formula takes any."""
    if not takes_attributes(node.op_type):
        return node.attributes
    return {**get_registry().op_of(node, body).defaults(), **node.attributes}


# ---- nodes alone -------------------------------------------------------------------------------------------


def _single(op_type: str) -> Kernel:
    def make(site: KernelSite) -> Into | None:
        if not is_scalar(site.outputs[0]) or "broadcast" in site.attributes:
            return None
        types: list[Any] = []
        for t in site.inputs.values():
            types += t if isinstance(t, tuple) else [t]
        if not all(t is None or is_scalar(t) for t in types):
            return None
        present = iter(range(len(types)))
        operands = ["" if t is None else f"x{next(present)}" for t in types]
        functions = _function(formula(op_type, operands, site.attributes), sum(o != "" for o in operands))
        return _into(site, functions, len(types), tuple(range(len(types))))

    return Kernel(f"scalar_{op_type}", op_type, make, priority=1)


@cache
def _function(text: str, count: int) -> tuple[Function, Function]:
    return functions_of([f"y = {text}"], count, ["y"])


KERNELS = (scalars, *(_single(op_type) for op_type in sorted(OPS - ALIASES - {*FILLS})))
