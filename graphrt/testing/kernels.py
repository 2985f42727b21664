"""`check_kernel`: a kernel does what its op's own function does, on the op's examples and on more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from graphrt.definitions import Into, Kernel, KernelSite, Linker, View
from graphrt.errors import GraphrtError
from graphrt.ir import Graph, Node
from graphrt.manager import get_registry
from graphrt.op import Example, Op
from graphrt.registry import Registry
from graphrt.testing.calls import Env, Point
from graphrt.testing.points import generated
from graphrt.testing.trees import map_leaves
from graphrt.types import UNKNOWN, TensorType, ValueType, numpy_dtype

TOLERANCE = {"float64": 1e-11, "float32": 2e-4}


class KernelCheckError(AssertionError):
    """A kernel does not do what its op does; the message names kernel, op, example and numbers."""


def check_kernel(
    kernel: Kernel, examples: Iterable[Example] = (), *, seed: int = 0, registry: Registry | None = None
) -> int:
    """Compares a kernel with its op's own function wherever it serves.

    Tried are the op's examples, generated points of elementwise ops, and ``examples``, at float64 and float32, with
    arrays as they are, with Fortran order and with gaps between elements. For a derived op the arguments are those
    of a run: random cotangents, the value's outputs. What can be linked is linked too, and called with other numbers
    first.

    Args:
        kernel: what to check.
        examples: further arguments of the base op's value, for kernels that serve larger shapes.
        seed: of examples and cotangents.
        registry: where the op is looked up (default: what is installed).

    Returns:
        At how many examples it served.

    Raises:
        KernelCheckError: another result than the op's (relative to the largest element: 1e-11 at float64, 2e-4 at
            float32), another dtype or shape, an input changed; other bits when it is linked; or it served nowhere.
    """
    found = get_registry() if registry is None else registry
    base, _, suffix = kernel.op_type.partition(".")
    more = list(examples)
    served = 0
    for op in found.versions(base, kernel.domain):
        for point in _points(op, more, seed, found):
            for dtype in ("float64", "float32"):
                served += _check_at(kernel, op, suffix, point, dtype, seed)
    if not served:
        raise KernelCheckError(f"{_named(kernel)}: serves none of the examples; give some that it does")
    return served


def _points(op: Op, examples: list[Example], seed: int, registry: Registry) -> Iterator[Point]:
    yield from generated(op, np.random.default_rng(seed), seed)
    drawn = list(op.draw_examples(np.random.default_rng(seed)))
    for i, example in enumerate([*drawn, *examples]):
        try:
            example = example if isinstance(example, Example) else Example(*example)
            attributes = {k: _Body(v, registry) if isinstance(v, Graph) else v for k, v in example.attributes.items()}
            point = Point.of(op, replace(example, attributes=attributes), f"example {i}", seed)
            point.value()
        except (ValueError, TypeError, KeyError, GraphrtError):
            if i < len(drawn):
                raise
            continue  # an extra example of another version of the op
        yield point


class _Body(Graph):
    """A subgraph that can be called, as the op's own function does it: runs its nodes' functions one by one."""

    def __init__(self, graph: Graph, registry: Registry):
        for name in Graph.__dataclass_fields__:
            object.__setattr__(self, name, getattr(graph, name))
        object.__setattr__(self, "registry", registry)

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        values: dict[str, Any] = {"": None, **self.initializers, **dict(zip(self.input_names, arrays, strict=True))}
        for node in self.nodes:
            op = self.registry.op_of(node, self)  # type: ignore[attr-defined]
            attributes = {k: v for k, v in node.attributes.items() if k in op.attributes}
            made = op.function(*(values[i] for i in node.inputs), **{**op.defaults(), **attributes})
            values.update(zip(node.outputs, made if op.many_outputs else (made,), strict=False))
        return tuple(values[o] for o in self.output_names)


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
    if suffix.startswith("jvp") and values[0] is None:
        return False  # no tangents of integers
    attributes = {**target.defaults(), **{k: v for k, v in point.attributes.items() if k in target.attributes}}
    context = {k: v for k, v in (("n_outputs", point.n_outputs), ("opset", point.opset)) if k in target.context}
    expected = target.function(*_call_args(target, values), **attributes, **context)
    results = expected if isinstance(expected, (tuple, list)) else (expected,)
    site = KernelSite(
        Node(kernel.op_type, tuple(f"x{i}" for i in range(len(values))), (), attributes, kernel.domain),
        {p.name: _type(v) for p, v in zip(target.inputs, values, strict=True)},
        {**op.defaults(), **point.attributes, **attributes, **context},
        (*map(_type, results), *(None,) * (len(target.outputs) - len(results))),
    )
    made = kernel.make(site)
    if made is None:
        return False
    for i in range(len(results) if len(results) > 1 else 0):
        _check_without(kernel, point, dtype, site, i, target, values, expected)
    for layout in (np.copy, np.asfortranarray, _gapped):
        flat = _flat(target, [map_leaves(partial(_arranged, layout), v) for v in values])
        with np.errstate(all="ignore"):  # as the interpreter does
            found = _filled(kernel, made, flat, expected) if isinstance(made, Into) else _called(kernel, made, flat)
        _compare(kernel, point, dtype, expected, found)
        if isinstance(made, Into) and made.linker is not None:
            _check_linked(kernel, made, made.linker, flat)
    return True


def _check_without(
    kernel: Kernel, point: Point, dtype: str, site: KernelSite, index: int, target: Op, values: list[Any], expected: Any
) -> None:
    """Compares what a kernel makes where a node does not want one of the outputs."""
    made = kernel.make(replace(site, outputs=tuple(None if i == index else t for i, t in enumerate(site.outputs))))
    if isinstance(made, Into):
        with np.errstate(all="ignore"):
            found = _fill(made, _flat(target, values), {})
        _compare(kernel, point, dtype, [None if i == index else y for i, y in enumerate(expected)], found)


def _filled(kernel: Kernel, made: Into, flat: list[Any], expected: Any) -> Any:
    """What `Into.fill` writes into memory full of other things, in memory of its own and over the inputs it may."""
    plain = _fill(made, flat, {})
    for output, inputs in made.over.items():
        for i in inputs:
            t, x = made.outputs[output], flat[i]
            if x is None or t is None or TensorType.of(x) != t:
                continue
            own = np.array(x, order="C")
            given = [*flat[:i], own, *flat[i + 1 :]]
            for j, (y, z) in enumerate(zip(_fill(made, given, {output: own}), plain, strict=True)):
                if z is not None and not _is_close(y, z):
                    raise KernelCheckError(
                        f"{_named(kernel)}: writing output {output} over input {i} changes output {j}"
                    )
    return plain if isinstance(expected, (tuple, list)) else plain[0]


def _called(kernel: Kernel, made: Callable[..., Any] | View, flat: list[Any]) -> Any:
    """What a function gives; of a `View` it has to be views of the first input."""
    if not isinstance(made, View):
        return made(*flat)
    found, x = made.function(*flat), flat[0]
    lasting = x.flags.c_contiguous or not made.reshapes
    for y in found if isinstance(found, (tuple, list)) else (found,):
        if lasting and y.size and not np.may_share_memory(x, y):
            raise KernelCheckError(f"{_named(kernel)}: gives no view of its first input")
    return found


def _check_linked(kernel: Kernel, made: Into, linker: Linker, flat: list[Any]) -> None:
    """Compares two linked fills, called for the second time, with one by itself: for the first time with other numbers
    in other memory, so that what is remembered of them would show."""
    alone = _fill(made, flat, {})
    count = len(flat) + len(made.outputs) + len(made.scratch)
    call, kept = linker.link([made.fill] * 2, [range(count)] * 2, range(count)), list[Any]()
    outputs: list[Any] = []
    for given in ([map_leaves(_changed, x) for x in flat], flat):
        outputs = [None if t is None else _garbage(t) for t in made.outputs]
        if call(kept, *given, *outputs, *map(_garbage, made.scratch)) is not None:
            raise KernelCheckError(f"{_named(kernel)}: linked, it stops where by itself it does not")
    for i, (have, want) in enumerate(zip(outputs, alone, strict=True)):
        if want is not None and have.tobytes() != want.tobytes():
            raise KernelCheckError(f"{_named(kernel)}: linked, output {i} is another one than by itself")


def _changed(x: Any) -> Any:
    """An array of the same type with other numbers: its own turned around, or for a single one another."""
    if not isinstance(x, np.ndarray):
        return x
    if x.ndim:
        return np.array(np.flip(x), order="K")
    return x + x.dtype.type(1) if x.dtype.kind in "iu" else x * x.dtype.type(0.5) if x.dtype.kind == "f" else x.copy()


def _fill(made: Into, flat: list[Any], over: dict[int, Any]) -> list[Any]:
    outputs = [over.get(i, None if t is None else _garbage(t)) for i, t in enumerate(made.outputs)]
    made.fill(*flat, *outputs, *map(_garbage, made.scratch))
    return outputs


def _garbage(t: TensorType) -> Any:
    """An array of a type, with anything in it."""
    made: Any = np.empty(t.shape or (), numpy_dtype(t.dtype or "float32"))
    made.view(np.uint8 if made.ndim else made.dtype)[...] = 0xA5 if made.ndim else 1
    return made


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
    for i, (want, have) in enumerate(zip(expected, found, strict=False) if many else [(expected, found)]):
        if want is None:
            continue
        where = f"{_named(kernel)}, output {i}, {point.label} ({dtype}, {dict(point.attributes)})"
        if have is None or have.dtype != want.dtype or have.shape != want.shape:
            made = "None" if have is None else f"{have.dtype}{list(have.shape)}"
            raise KernelCheckError(f"{where}: gives {made}, the op {want.dtype}{list(want.shape)}")
        if not _is_close(have, want):
            size = float(np.max(np.abs(want), initial=0, where=np.isfinite(want)))
            worst = float(np.nanmax(np.abs(have - want)))
            raise KernelCheckError(f"{where}: differs by up to {worst:.3g}; the op's largest element is {size:.3g}")


def _is_close(have: Any, want: Any) -> bool:
    tolerance = TOLERANCE.get(str(want.dtype), 0.0)
    size = float(np.max(np.abs(want), initial=0, where=np.isfinite(want)))
    return np.allclose(have, want, rtol=tolerance, atol=tolerance * max(size, 1e-30), equal_nan=True)


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
