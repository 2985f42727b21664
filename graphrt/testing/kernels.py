"""`check_kernel`: a kernel does what its op's own function does, on the op's examples and on more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from graphrt.definitions import Kernel, KernelSite
from graphrt.errors import GraphrtError
from graphrt.ir import Node
from graphrt.manager import get_registry
from graphrt.op import Example, Op
from graphrt.registry import Registry
from graphrt.testing.calls import Env, Point
from graphrt.testing.trees import map_leaves
from graphrt.types import UNKNOWN, TensorType, ValueType

TOLERANCE = {"float64": 1e-11, "float32": 2e-4}


class KernelCheckError(AssertionError):
    """A kernel does not do what its op does; the message names kernel, op, example and numbers."""


def check_kernel(
    kernel: Kernel, examples: Iterable[Example] = (), *, seed: int = 0, registry: Registry | None = None
) -> int:
    """Compares a kernel with its op's own function wherever it serves.

    Tried are the op's examples, generated points of elementwise ops, and ``examples``, at float64 and float32, with
    arrays as they are, with Fortran order and with gaps between elements. For a derived op the arguments are those
    of a run: random cotangents, the value's outputs.

    Args:
        kernel: what to check.
        examples: further arguments of the base op's value, for kernels that serve larger shapes.
        seed: of examples and cotangents.
        registry: where the op is looked up (default: what is installed).

    Returns:
        At how many examples it served.

    Raises:
        KernelCheckError: another result than the op's (relative to the largest element: 1e-11 at float64, 2e-4 at
            float32), another dtype or shape, an input changed; or it served nowhere.
    """
    found = get_registry() if registry is None else registry
    base, _, suffix = kernel.op_type.partition(".")
    more = list(examples)
    served = 0
    for op in found.versions(base, kernel.domain):
        for point in _points(op, more, seed):
            for dtype in ("float64", "float32"):
                served += _check_at(kernel, op, suffix, point, dtype, seed)
    if not served:
        raise KernelCheckError(f"{_named(kernel)}: serves none of the examples; give some that it does")
    return served


def _points(op: Op, examples: list[Example], seed: int) -> Iterator[Point]:
    drawn = list(op.draw_examples(np.random.default_rng(seed)))
    for i, example in enumerate([*drawn, *examples]):
        try:
            point = Point.of(op, example if isinstance(example, Example) else Example(*example), f"example {i}", seed)
            point.value()
        except (ValueError, TypeError, KeyError, GraphrtError):
            if i < len(drawn):
                raise
            continue  # an extra example of another version of the op
        yield point


def _check_at(kernel: Kernel, op: Op, suffix: str, point: Point, dtype: str, seed: int) -> bool:
    point = point.at({name: map_leaves(lambda x: _cast(x, dtype), v) for name, v in point.inputs.items()})
    target, env = op, {**point.inputs}
    if suffix:
        outputs = point.value()
        target = op.derived(suffix)
        rng = np.random.default_rng(seed)
        cts = tuple(_noise(rng, y) for y in outputs)
        if all(ct is None for ct in cts):
            return False
        dots = {n: map_leaves(lambda x: _noise(rng, x), x) for n, x in point.inputs.items()}
        env = Env(point, outputs, cts, dots).values()
    values = [env.get(p.name) for p in target.inputs]
    attributes = {**target.defaults(), **{k: v for k, v in point.attributes.items() if k in target.attributes}}
    context = {k: v for k, v in (("n_outputs", point.n_outputs), ("opset", point.opset)) if k in target.context}
    expected = target.function(*_call_args(target, values), **attributes, **context)
    results = expected if isinstance(expected, (tuple, list)) else (expected,)
    site = KernelSite(
        Node(kernel.op_type, tuple(f"x{i}" for i in range(len(values))), (), attributes, kernel.domain),
        {p.name: _type(v) for p, v in zip(target.inputs, values, strict=True)},
        {**op.defaults(), **point.attributes, **attributes, **context},
        tuple(_type(r) or UNKNOWN for r in results),
    )
    made = kernel.make(site)
    if made is None:
        return False
    for layout in (np.copy, np.asfortranarray, _gapped):
        flat = _flat(target, [map_leaves(partial(_arranged, layout), v) for v in values])
        with np.errstate(all="ignore"):  # as the interpreter does
            found = made(*flat)
        _compare(kernel, point, dtype, expected, found)
    return True


def _call_args(target: Op, values: list[Any]) -> list[Any]:
    if target.grouped:
        return values
    return _flat(target, values)


def _flat(target: Op, values: list[Any]) -> list[Any]:
    """The arguments as a node's inputs list them."""
    flat: list[Any] = []
    for p, v in zip(target.inputs, values, strict=True):
        flat.extend(v if p.variadic else [v])
    return flat


def _compare(kernel: Kernel, point: Point, dtype: str, expected: Any, found: Any) -> None:
    many = isinstance(expected, (tuple, list))
    if many != isinstance(found, (tuple, list)):
        raise KernelCheckError(f"{_named(kernel)} returns {type(found).__name__} at {point.label}")
    for i, (want, have) in enumerate(zip(expected, found, strict=True) if many else [(expected, found)]):
        if want is None:
            continue
        where = f"{_named(kernel)}, output {i}, {point.label} ({dtype}, {dict(point.attributes)})"
        if have is None or have.dtype != want.dtype or have.shape != want.shape:
            made = "None" if have is None else f"{have.dtype}{list(have.shape)}"
            raise KernelCheckError(f"{where}: gives {made}, the op {want.dtype}{list(want.shape)}")
        size = float(np.max(np.abs(want), initial=0, where=np.isfinite(want)))
        if not np.allclose(have, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(size, 1e-30), equal_nan=True):
            worst = float(np.nanmax(np.abs(have - want)))
            raise KernelCheckError(f"{where}: differs by up to {worst:.3g}; the op's largest element is {size:.3g}")


def _named(kernel: Kernel) -> str:
    return f"kernel {kernel.name!r} of {kernel.op_type}"


def _type(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return tuple(map(_type, x))
    found: ValueType | None = None if x is None else TensorType.of(x) if hasattr(x, "dtype") else UNKNOWN
    return found


def _cast(x: Any, dtype: str) -> Any:
    return x.astype(dtype) if getattr(x, "dtype", None) == np.float64 else x


def _noise(rng: np.random.Generator, x: Any) -> Any:
    if getattr(x, "dtype", None) is None or x.dtype.kind != "f":
        return None
    return np.asarray(rng.normal(size=x.shape), x.dtype)


def _gapped(x: Any) -> Any:
    part = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., ::2]
    part[...] = x
    return part


def _arranged(layout: Any, x: Any) -> Any:
    if not isinstance(x, np.ndarray) or (x.size and not any(x.strides) and x.size > 1):
        return x
    made = np.asarray(layout(x)) if x.ndim else np.array(x)
    made.flags.writeable = False
    return made
