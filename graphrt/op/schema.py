"""What an op takes, read from its function's signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from graphrt.errors import GraphError, PluginError
from graphrt.records import dataclass

Array: TypeAlias = Any
Function: TypeAlias = Callable[..., Any]

CONTEXT = frozenset({"rng", "n_outputs", "opset"})
"""Keyword-only parameters that the interpreter supplies."""

_KINDS = {
    "int": "int", "bool": "int", "float": "float", "str": "string", "bytes": "bytes",
    "tuple[int, ...]": "ints", "tuple[float, ...]": "floats", "tuple[str, ...]": "strings",
    "np.ndarray": "tensor", "Graph": "graph", "tuple[Graph, ...]": "graphs", "ValueType": "type", "Any": "any",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Param:
    """One input of an op (or of a rule): its name, whether it may be absent, whether it takes the rest."""

    name: str
    optional: bool = False
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """One attribute of an op.

    ``kind`` is one of int, float, string, bytes, ints, floats, strings, tensor, graph, graphs, type, any.
    """

    name: str
    kind: str
    required: bool
    default: Any = None


def read_signature(
    function: Function, where: str
) -> tuple[tuple[Param, ...], dict[str, AttributeSpec], frozenset[str]]:
    """Inputs, attributes and context of a value function; ``where`` names the op in errors.

    Raises:
        PluginError: the signature makes no op.
    """
    code = function.__code__
    n_pos, n_kw = code.co_argcount, code.co_kwonlyargcount
    positional, keyword = code.co_varnames[:n_pos], code.co_varnames[n_pos : n_pos + n_kw]
    defaults = function.__defaults__ or ()
    inputs = [Param(n, optional=i >= n_pos - len(defaults)) for i, n in enumerate(positional)]
    if code.co_flags & 0x04:
        inputs.append(Param(code.co_varnames[n_pos + n_kw], variadic=True))
    if code.co_flags & 0x08:
        raise PluginError(f"op {where}: **keywords cannot be attributes; name each one")
    if any(d is not None for d in defaults):
        raise PluginError(f"op {where}: an optional input defaults to None")
    kw_defaults = function.__kwdefaults__ or {}
    attributes = {
        n: _attribute_spec(n, function.__annotations__.get(n), n not in kw_defaults, kw_defaults.get(n), where)
        for n in keyword
        if n not in CONTEXT
    }
    return tuple(inputs), attributes, frozenset(n for n in keyword if n in CONTEXT)


def _attribute_spec(name: str, annotation: Any, required: bool, default: Any, where: str) -> AttributeSpec:
    if annotation is None and default is not None:
        many = isinstance(default, tuple) and default
        annotation = f"tuple[{type(default[0]).__name__}, ...]" if many else type(default)
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = text.removesuffix(" | None").replace("np.ndarray[Any, Any]", "np.ndarray")
    kind = _KINDS.get("np.ndarray" if text == "ndarray" else text)
    if kind is None:
        raise PluginError(
            f"op {where}: attribute {name!r} needs a type: a default or one of the annotations {', '.join(_KINDS)}"
        )
    return AttributeSpec(name, kind, required, default)


def segment_lengths(inputs: Sequence[Param], count: int, segments: Any, signature: str) -> Sequence[int]:
    """How many of a node's ``count`` inputs each input of the op takes.

    Args:
        inputs: of the op.
        count: how many inputs the node has.
        segments: the node's attribute of that name, needed when more than one input is variadic.
        signature: names the op in errors.

    Raises:
        GraphError: too few or too many.
    """
    variadic = [i for i, p in enumerate(inputs) if p.variadic]
    if segments is not None:
        if not _are_segments(segments, inputs, count):
            raise GraphError(f"segments {segments!r} do not fit {count} inputs of {signature}")
        return tuple(segments)
    if len(variadic) > 1:
        raise GraphError(f"a node with two variadic inputs ({signature}) needs the attribute 'segments'")
    required = sum(1 for p in inputs if not p.optional and not p.variadic)
    fixed = len(inputs) - len(variadic)
    if count < required or (not variadic and count > fixed):
        exactly = str(required) if required == fixed else f"{required} to {fixed}"
        expected = f"{required} or more" if variadic else exactly
        raise GraphError(f"takes {expected} inputs ({signature}), the node has {count}")
    lengths, rest = [], count
    for i, p in enumerate(inputs):
        n = rest - (len(inputs) - i - 1) if p.variadic else min(1, rest)
        lengths.append(n)
        rest -= n
    return lengths


def _are_segments(segments: Any, inputs: Sequence[Param], count: int) -> bool:
    whole = isinstance(segments, Sequence) and all(isinstance(n, int) and n >= 0 for n in segments)
    if not whole or len(segments) != len(inputs) or sum(segments) != count:
        return False
    return all(n <= 1 or p.variadic for n, p in zip(segments, inputs, strict=True))
