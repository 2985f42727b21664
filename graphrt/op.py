"""The op contract: a plain NumPy function, and its derivative rules beneath it.

The function's signature is the op's schema. Positional parameters are the inputs (``= None``: optional;
``*xs``: variadic), keyword-only parameters are the attributes. Three keyword-only names are not attributes
but are supplied by the interpreter: ``rng`` (a `numpy.random.Generator` keyed by seed, node, step and
worker), ``n_outputs`` (how many outputs the node names) and ``opset`` (the version the graph imports).

A rule's parameters are chosen by name:

========== =====================================================================================
``ct``      the cotangent of the first output (``ct_<output>`` of a named one, ``cts`` of all of a
            variadic output; None when nothing flows back through that output)
``x_dot``   the tangent of input ``x`` (None when it has none)
``x``       the input or output named ``x``
``x_like``  shape and dtype of the input or output ``x`` in an array without memory (see `like`): a rule
            that needs no more keeps nothing alive
``x_value`` (``infer`` only) the array of input ``x`` where it is a known constant, else None
attributes  by their names, after all values
========== =====================================================================================

A value that no rule names is freed at its last forward use: the names are the memory plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from graphrt.dual import lists, next_level
from graphrt.errors import GraphError, GraphrtError, NotDifferentiableError, PluginError, TypeInferenceError
from graphrt.types import TensorType, ValueType, broadcast_shapes, dtype_name, numpy_dtype

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


@dataclass(frozen=True, slots=True)
class Rule:
    """One derivative rule: which inputs it is for, the values it names (in call order), its attributes.

    ``skippable`` lists the values that may be None when shapes are known to agree.
    """

    wrt: tuple[str, ...]
    function: Function
    values: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    skippable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """Arguments at which `graphrt.testing.check_op` tries an op.

    ``smooth=False`` marks a point where finite differences mean nothing (a kink, a jump); values and the
    adjoint identity are still checked there.
    """

    inputs: tuple[Array, ...]
    attributes: Mapping[str, Any]
    smooth: bool = True


def like(x: Array) -> Array:
    """Shape and dtype of an array, as a read-only array of zeros that owns one element of memory.

    >>> like(np.ones((2, 3), "float32")).strides
    (0, 0)

    A list gives the list of its arrays' likes; None gives None.
    """
    if x is None or isinstance(x, list):
        return x if x is None else [like(e) for e in x]
    return np.broadcast_to(np.zeros((), x.dtype), x.shape)


def unbroadcast(ct: Array, x_like: Array | None) -> Array:
    """Sums a cotangent over the axes along which ``x`` was broadcast: the adjoint of broadcasting.

    Args:
        ct: float [...]; cotangent of a value that ``x`` was broadcast to.
        x_like: an array with the shape of ``x``; None leaves ``ct`` as it is.

    Returns:
        float, the shape of ``x_like``, the dtype of ``ct``.
    """
    if x_like is None or ct.shape == x_like.shape:
        return ct
    extra = ct.ndim - x_like.ndim
    axes = [*range(extra), *(extra + i for i, n in enumerate(x_like.shape) if n == 1 and ct.shape[extra + i] != 1)]
    summed = np.sum(ct, axis=tuple(axes), dtype=ct.dtype) if axes else ct
    return np.reshape(np.broadcast_to(summed, x_like.shape) if summed.size == 1 else summed, x_like.shape)


class Op:
    """One version of one operator: schema, value function, derivative rules. Made by the decorator `op`.

    Calling an op calls its value function.

    Attributes:
        op_type, domain, version: the key it is registered under. ``version`` is the first opset version
            from which these semantics hold.
        function: the value, on NumPy arrays.
        inputs, attributes, outputs: the schema read from the signature.
        variadic_output: the single name in ``outputs`` stands for any number of them.
        context: which of `CONTEXT` the function asks for.
        elementwise: inputs broadcast together and each output element depends on one element of each.
        linear: groups of inputs; the value is linear in each group, others held fixed.
        nondiff: inputs through which no gradient ever flows.
        skippable: inputs of a rule that may be absent when shapes are known to agree.
        grouped: the function takes each variadic input as one tuple (rules do; values take ``*xs``).
        ranges, kinks: for elementwise ops, where to draw test points and where the derivative jumps.
    """

    def __init__(
        self,
        function: Function,
        op_type: str,
        *,
        version: int = 1,
        domain: str = "",
        outputs: str | Sequence[str] = ("y",),
        elementwise: bool = False,
        linear: str | Sequence[str | Sequence[str]] = (),
        nondiff: bool | str | Sequence[str] = (),
        ranges: Mapping[str, tuple[float, float]] | None = None,
        kinks: Sequence[float] = (),
    ):
        self.function, self.op_type, self.domain, self.version = function, op_type, domain, version
        if not op_type or "." in op_type:
            raise PluginError(f"op {op_type!r}: a name has no dots; those are for derived ops such as Tanh.vjp[x]")
        self.doc = function.__doc__ or ""
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        self.variadic_output = names[-1].startswith("*")
        self.outputs = tuple(n.lstrip("*") for n in names)
        self.elementwise, self.ranges, self.kinks = elementwise, dict(ranges or {}), tuple(kinks)
        self.inputs, self.attributes, self.context = _read_signature(function, self.qualified_name)
        self._count_inputs()
        known = {p.name for p in self.inputs}
        groups = (linear,) if isinstance(linear, str) else linear
        self.linear = tuple((g,) if isinstance(g, str) else tuple(g) for g in groups)
        listed = (nondiff,) if isinstance(nondiff, str) else () if isinstance(nondiff, bool) else tuple(nondiff)
        self.nondiff = frozenset(known if nondiff is True else listed)
        for name in (*self.nondiff, *(n for g in self.linear for n in g), *self.ranges):
            if name not in known:
                raise PluginError(f"op {self.qualified_name}: {name!r} is not one of its inputs: {', '.join(known)}")
        self.grouped = False
        self._vjp: dict[str, Rule] = {}
        self._jvp: dict[str, Rule] = {}
        self._derivative: dict[str, Rule] = {}
        self._infer: Rule | None = None
        self._examples: Callable[[np.random.Generator], Iterable[Example]] | None = None
        self._derived: dict[str, Op] = {}
        self.mode_rule: Function | None = None
        self.body_vjp_rule: Function | None = None
        self.body_jvp_rule: Function | None = None
        self.skippable: frozenset[str] = frozenset()

    def __call__(self, *args: Any, **attributes: Any) -> Any:
        return self.function(*args, **attributes)

    def __repr__(self) -> str:
        return f"<op {self.qualified_name} version {self.version}>"

    @property
    def qualified_name(self) -> str:
        """``"MatMul"``, or ``"graphrt::Step"`` outside the default domain."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def many_outputs(self) -> bool:
        """Whether the function returns a tuple of outputs, not one value (which may be a list: a sequence)."""
        return self.variadic_output or len(self.outputs) > 1

    @property
    def signature(self) -> str:
        """The schema as text: ``Clip(input, min?, max?; axis=0) -> y``."""
        mark = {True: "*"}
        ins = ", ".join(mark.get(p.variadic, "") + p.name + ("?" if p.optional else "") for p in self.inputs)
        attrs = ", ".join(a.name if a.required else f"{a.name}={a.default!r}" for a in self.attributes.values())
        outs = ", ".join(("*" if self.variadic_output else "") + o for o in self.outputs)
        return f"{self.qualified_name}({ins}{'; ' if attrs else ''}{attrs}) -> {outs}"

    # ---- rules: decorators -------------------------------------------------------------------------

    def derivative(self, wrt: str) -> Callable[[Function], Function]:
        """Declares the local derivative dy/d(wrt) of an elementwise op: it gives both VJP and JVP."""
        if not self.elementwise or len(self.outputs) != 1:
            raise PluginError(
                f"op {self.qualified_name}: derivative() is for elementwise ops with one output; use vjp()"
            )
        return self._declare(self._derivative, (wrt,), ())

    def vjp(self, *wrt: str) -> Callable[[Function], Function]:
        """Declares a vector-Jacobian product for one input, or for several at once (returning a tuple).

        For a variadic input the rule returns one cotangent per member. None stands for a zero cotangent.
        """
        allowed = ("cts",) if self.variadic_output else ("ct", *(f"ct_{o}" for o in self.outputs))
        return self._declare(self._vjp, wrt, allowed)

    def jvp(self, *wrt: str) -> Callable[[Function], Function]:
        """Declares what the tangents of some inputs add to the outputs' tangents (a tuple for several outputs)."""
        return self._declare(self._jvp, wrt, tuple(f"{w}_dot" for w in wrt))

    def infer(self, function: Function) -> Function:
        """Declares the output types from the input types: `TensorType` in, `TensorType` (or a tuple) out.

        Parameters are chosen by name: inputs (types; None when absent), ``<input>_value`` (array of a known
        constant, else None), attributes, ``n_outputs``.
        """
        self._infer = self._read_rule(function, (), tuple(f"{p.name}_value" for p in self.inputs))
        return function

    def examples(self, function: Function) -> Function:
        """Declares arguments to test at: ``rng -> iterable of Example, or of (inputs, attributes) pairs``."""
        self._examples = function
        return function

    def body_vjp(self, function: Function) -> Function:
        """Declares the VJP of an op with subgraphs: ``(cts, inputs, *, attributes) -> input cotangents``.

        ``cts``: one cotangent per output, None where nothing comes back; ``inputs``: the node's inputs. A graph
        attribute arrives as a `graphrt.runtime.bodies.BoundBody`, whose ``vjp`` gives outputs and a pullback;
        it gathers the cotangents of captured values by itself. None stands for a zero cotangent.
        """
        self.body_vjp_rule = function
        return function

    def body_jvp(self, function: Function) -> Function:
        """Declares the JVP of an op with subgraphs: ``(dots, inputs, *, attributes) -> output tangents``.

        ``dots``: one tangent per input, None where there is none. A graph attribute's ``jvp`` takes inputs and
        tangents and gives outputs and their tangents; it knows the tangents of captured values.
        """
        self.body_jvp_rule = function
        return function

    def mode(self, function: Function) -> Function:
        """Declares how a node of this op changes between training and inference.

        ``(node, training, scope) -> (nodes, state_updates)``: the nodes that replace it (itself, when nothing
        changes; helper nodes take fresh names from ``scope``), and which initializers to update with which
        values after each run.
        """
        self.mode_rule = function
        return function

    def draw_examples(self, rng: np.random.Generator) -> tuple[Example, ...]:
        """The declared examples; none where the op declares none."""
        found = () if self._examples is None else self._examples(rng)
        return tuple(e if isinstance(e, Example) else Example(tuple(e[0]), dict(e[1])) for e in found)

    def _declare(
        self, table: dict[str, Rule], wrt: tuple[str, ...], extra: tuple[str, ...]
    ) -> Callable[[Function], Function]:
        known = {p.name for p in self.inputs}
        for name in wrt:
            if name not in known:
                raise PluginError(f"op {self.qualified_name}: a rule for {name!r}, which is not one of its inputs")
            if name in table:
                raise PluginError(f"op {self.qualified_name}: two rules of one kind for input {name!r}")

        def declare(function: Function) -> Function:
            rule = self._read_rule(function, wrt, extra)
            table.update(dict.fromkeys(wrt, rule))
            return function

        return declare

    def _read_rule(self, function: Function, wrt: tuple[str, ...], extra: tuple[str, ...]) -> Rule:
        plain = [p.name for p in self.inputs] + list(self.outputs)
        values_allowed = {*plain, *(f"{n}_like" for n in plain), *extra}
        names = getattr(function, "parameters", None)  # a rule that was made, not written, says what it names
        if names is None:
            code = function.__code__
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        attributes = [n for n in names if n in self.attributes or n in CONTEXT]
        values = [n for n in names if n not in attributes]
        for n in values:
            if n not in values_allowed:
                raise PluginError(
                    f"op {self.qualified_name}: rule parameter {n!r} is no input, output or attribute; "
                    f"choose from {', '.join(sorted(values_allowed | set(self.attributes)))}"
                )
        if list(names) != values + attributes:
            raise PluginError(f"op {self.qualified_name}: a rule names its values first, then attributes: {names}")
        return Rule(wrt, function, tuple(values), tuple(attributes))

    # ---- what is differentiable --------------------------------------------------------------------

    def is_differentiable(self, name: str) -> bool:
        """Whether a VJP exists for this input."""
        return name in self._vjp or name in self._derivative

    def vjp_group(self, name: str) -> tuple[str, ...]:
        """The inputs whose cotangents the rule for ``name`` yields together.

        Raises:
            NotDifferentiableError: the input has no rule.
        """
        rule = self._vjp.get(name) or self._derivative.get(name)
        if rule is None and "." in self.op_type:
            raise NotDifferentiableError(
                f"{self.qualified_name} is a derivative rule: reverse over reverse has no rules; take the second "
                f"derivative forward over reverse, as Session.hvp does"
            )
        if rule is None:
            raise NotDifferentiableError(
                f"op {self.qualified_name} (version {self.version}) has no derivative rule for input {name!r}"
            )
        return rule.wrt

    def param(self, name: str) -> Param:
        """The input of this name."""
        return next(p for p in self.inputs if p.name == name)

    # ---- derived ops: a rule as an op of the joint graph ---------------------------------------------

    def derived(self, suffix: str) -> Op:
        """The op that a node such as ``MatMul.vjp[a]`` calls; ``suffix`` is ``"vjp[a]"`` or ``"jvp[a,b]"``.

        Raises:
            NotDifferentiableError: there is no such rule.
            GraphError: the suffix is malformed.
        """
        if suffix not in self._derived:
            kind, _, rest = suffix.partition("[")
            if kind in ("vjp", "jvp") and rest == "*]":
                self._derived[suffix] = self._body_op(kind, suffix)
                return self._derived[suffix]
            wrt = tuple(rest.removesuffix("]").split(","))
            if kind not in ("vjp", "jvp") or not rest.endswith("]") or not all(wrt):
                raise GraphError(f"{self.op_type}.{suffix}: a derived op is written OP.vjp[input] or OP.jvp[input,...]")
            self._derived[suffix] = self._vjp_op(wrt, suffix) if kind == "vjp" else self._jvp_op(wrt, suffix)
        return self._derived[suffix]

    def _body_op(self, kind: str, suffix: str) -> Op:
        function = self.body_vjp_rule if kind == "vjp" else self.body_jvp_rule
        if self.op_type.endswith(".vjp[*]") and kind == "jvp":
            function = self.function  # the rule itself, to be run on dual arrays
        if function is None:
            raise NotDifferentiableError(f"op {self.qualified_name} has subgraphs and no {kind} rule for them")
        own = tuple(p.name for p in self.inputs) if "." in self.op_type else ("inputs",)
        first = ("cts" if kind == "vjp" else "dots", *own)
        made = self._rule_op(suffix, Rule((), function, first, tuple(self.attributes)), ("*results",))
        made.inputs = tuple(Param(n, optional=True, variadic=True) for n in first)
        made._count_inputs()
        return made

    def _vjp_op(self, wrt: tuple[str, ...], suffix: str) -> Op:
        if self.vjp_group(wrt[0]) != wrt:
            raise NotDifferentiableError(f"op {self.qualified_name} has no joint rule for inputs {', '.join(wrt)}")
        if wrt[0] in self._vjp:
            rule = self._vjp[wrt[0]]
        else:
            rule = _vjp_from_derivative(self._derivative[wrt[0]], broadcasts=len(self.inputs) > 1)
        variadic = self.param(wrt[-1]).variadic
        return self._rule_op(suffix, rule, _marked(tuple(f"{w}_ct" for w in wrt), variadic))

    def _jvp_op(self, wrt: tuple[str, ...], suffix: str) -> Op:
        rule = self._jvp_rule(wrt)
        return self._rule_op(suffix, rule, _marked(tuple(f"{o}_dot" for o in self.outputs), self.variadic_output))

    def _rule_op(self, suffix: str, rule: Rule, outputs: tuple[str, ...]) -> Op:
        made = Op.__new__(Op)
        made.function, made.domain, made.version = rule.function, self.domain, self.version
        made.op_type, made.doc = f"{self.op_type}.{suffix}", rule.function.__doc__ or ""
        variadic = {p.name for p in self.inputs if p.variadic} | ({self.outputs[0]} if self.variadic_output else set())
        spread = {*variadic, *(f"{n}_like" for n in variadic), *(f"{n}_dot" for n in variadic), "cts"}
        made.inputs = tuple(Param(n, optional=True, variadic=n in spread) for n in rule.values)
        made._count_inputs()
        made.attributes = {n: self.attributes[n] for n in rule.attributes if n not in CONTEXT}
        made.context = frozenset(n for n in rule.attributes if n in CONTEXT)
        made.variadic_output = outputs[-1].startswith("*")
        made.outputs = tuple(o.lstrip("*") for o in outputs)
        made.elementwise, made.linear, made.nondiff, made.ranges, made.kinks = False, (), frozenset(), {}, ()
        made.skippable = frozenset(rule.skippable)
        made.grouped = any(p.variadic for p in made.inputs)
        made._vjp, made._jvp, made._derivative, made._derived = {}, {}, {}, {}
        made._infer, made._examples, made.mode_rule = None, None, None
        made.body_vjp_rule, made.body_jvp_rule = None, None
        return made

    def _jvp_rule(self, wrt: tuple[str, ...]) -> Rule:
        """One rule for the tangents of all ``wrt`` together, from declared rules, linearity, or dual arrays."""
        parts: list[Rule] = []
        covered: set[str] = set()
        for name in wrt:
            if name in covered:
                continue
            part = self._jvp.get(name) or self._linear_rule(name)
            if part is None and name in self._derivative:
                out = self.outputs[0] if len(self.inputs) > 1 else None
                part = _jvp_from_derivative(self._derivative[name], out)
            if part is None:
                return self._dual_rule(wrt)
            parts.append(part)
            covered.update(part.wrt)
        dots = [f"{w}_dot" for w in wrt]
        values = tuple(dict.fromkeys(dots + [v for p in parts for v in p.values]))
        attributes = tuple(dict.fromkeys(a for p in parts for a in p.attributes))
        if len(parts) == 1 and parts[0].values == values:
            return parts[0]
        needed = {v for p in parts for v in p.values if v not in p.skippable}
        skippable = tuple(v for p in parts for v in p.skippable if v not in needed)
        return Rule(wrt, _sum_of_parts(parts, values), values, attributes, skippable)

    def _linear_rule(self, name: str) -> Rule | None:
        group = next((g for g in self.linear if name in g), None)
        if group is None:
            return None
        names = tuple(p.name for p in self.inputs)
        held = tuple(n for n in names if n not in group)
        spread = len(group) > 1 or self.param(name).variadic
        likes = tuple(f"{n}_like" for n in group) if spread else ()
        values = (*(f"{n}_dot" for n in group), *likes, *held)
        attributes = (*self.attributes, *self.context)
        return Rule(group, _value_at_tangents(self, group, values), values, attributes)

    def _dual_rule(self, wrt: tuple[str, ...]) -> Rule:
        for name in wrt:
            if "." not in self.op_type and not self.is_differentiable(name):
                self.vjp_group(name)  # raises, naming the op and the input
        if "rng" in self.context:
            raise NotDifferentiableError(f"random op {self.qualified_name} needs a jvp rule of its own")
        names = tuple(p.name for p in self.inputs)
        values = (*(f"{w}_dot" for w in wrt), *names)
        return Rule(wrt, _value_at_duals(self, wrt, values), values, tuple(self.attributes) + tuple(self.context))

    def _count_inputs(self) -> None:
        """How many inputs a node of this op may have; ``_most`` is -1 where a variadic input makes that open."""
        self._names = tuple(p.name for p in self.inputs)
        self._required = sum(1 for p in self.inputs if not p.optional and not p.variadic)
        self._most = -1 if any(p.variadic for p in self.inputs) else len(self.inputs)

    # ---- calling by node ---------------------------------------------------------------------------

    def bind(self, values: Sequence[Any], segments: Any = None) -> dict[str, Any]:
        """Input name to value (a tuple for a variadic one) for a node's inputs in order.

        Args:
            values: one entry per node input (names, types or arrays).
            segments: how many entries each input takes (the node's attribute of that name), needed when more
                than one is variadic.

        Raises:
            GraphError: too few or too many.
        """
        if segments is None and self._required <= len(values) <= self._most:
            bound: dict[str, Any] = dict.fromkeys(self._names)
            bound.update(zip(self._names, values, strict=False))
            return bound
        counts = self._segment_lengths(len(values), segments)
        bound = {}
        at = 0
        for param, n in zip(self.inputs, counts, strict=True):
            chunk = tuple(values[at : at + n])
            bound[param.name] = chunk if param.variadic else (chunk[0] if chunk else None)
            at += n
        return bound

    def _segment_lengths(self, count: int, segments: Any) -> Sequence[int]:
        variadic = [i for i, p in enumerate(self.inputs) if p.variadic]
        if segments is not None:
            if not self._are_segments(segments, count):
                raise GraphError(f"{self.op_type}: segments {segments!r} do not fit {count} inputs")
            return tuple(segments)
        if len(variadic) > 1:
            raise GraphError(f"{self.op_type}: a node with two variadic inputs needs the attribute 'segments'")
        required, fixed = self._required, len(self.inputs) - len(variadic)
        if count < required or (not variadic and count > fixed):
            expected = f"{required} or more" if variadic else _range_text(required, fixed)
            raise GraphError(f"takes {expected} inputs ({self.signature}), the node has {count}")
        lengths, rest = [], count
        for i, p in enumerate(self.inputs):
            after = len(self.inputs) - i - 1
            n = rest - after if p.variadic else min(1, rest)
            lengths.append(n)
            rest -= n
        return lengths

    def _are_segments(self, segments: Any, count: int) -> bool:
        whole = isinstance(segments, Sequence) and all(isinstance(n, int) and n >= 0 for n in segments)
        if not whole or len(segments) != len(self.inputs) or sum(segments) != count:
            return False
        return all(n <= 1 or p.variadic for n, p in zip(segments, self.inputs, strict=True))

    # ---- types -------------------------------------------------------------------------------------

    def infer_types(
        self,
        types: Sequence[ValueType | None],
        attributes: Mapping[str, Any],
        values: Sequence[Array | None] = (),
        n_outputs: int = 1,
        opset: int = 0,
    ) -> tuple[ValueType, ...]:
        """Output types from input types; unknown where nothing is known.

        Raises:
            TypeInferenceError: the types do not fit the op.
        """
        supplied = {**self.defaults(), **attributes, "n_outputs": n_outputs, "opset": opset}
        bound = self.bind(types, attributes.get("segments"))
        try:
            if self._infer is not None:
                known = self.bind(list(values) or [None] * len(types), attributes.get("segments"))
                bound.update({f"{k}_value": v for k, v in known.items()})
                unlike = {f"{k}_like": v for k, v in bound.items()}
                args = [{**unlike, **bound}[v] for v in self._infer.values]
                result = self._infer.function(*args, **{a: supplied[a] for a in self._infer.attributes})
                return tuple(result) if isinstance(result, (tuple, list)) else (result,)
            if self.elementwise:
                return self._infer_elementwise(types, {a: supplied[a] for a in self.attributes})
        except GraphrtError:
            raise
        except Exception as e:  # whatever a rule stumbles over: the types, or a node without what the op requires
            raise TypeInferenceError(f"{self.qualified_name}: {e}") from e
        return ()

    def _infer_elementwise(
        self, types: Sequence[ValueType | None], attributes: dict[str, Any]
    ) -> tuple[ValueType, ...]:
        present = [t for t in types if t is not None]
        if not all(isinstance(t, TensorType) for t in present):
            raise TypeInferenceError("takes tensors only")
        tensors = [t for t in present if isinstance(t, TensorType)]
        shape = broadcast_shapes(t.shape for t in tensors)
        if any(t.dtype is None for t in tensors):
            return (TensorType(None, shape),) * len(self.outputs)
        key = tuple(t.dtype if isinstance(t, TensorType) else None for t in types)
        dtypes = _elementwise_dtypes(self, key, tuple(sorted(attributes.items())))
        return tuple(TensorType(d, shape) for d in dtypes)

    def defaults(self) -> dict[str, Any]:
        """Attribute name to default, for those that have one."""
        return {a.name: a.default for a in self.attributes.values() if not a.required}


def op(op_type: str, **options: Any) -> Callable[[Function], Op]:
    """Decorator: makes an `Op` of a plain NumPy function; see the module's text for the contract.

    Args:
        op_type: the op's name, CamelCase.
        **options: ``version`` (first opset version of these semantics, default 1), ``domain``, ``outputs``
            (names; ``"*ys"`` for any number), ``elementwise``, ``linear`` (an input, or several: linear in
            each; an inner tuple: linear in these jointly; a variadic input counts as jointly linear),
            ``nondiff`` (inputs, or True for all), ``ranges`` and ``kinks`` (test points of elementwise ops).

    Raises:
        PluginError: the signature or an option does not make an op.
    """
    return lambda function: Op(function, op_type, **options)


def _marked(outputs: tuple[str, ...], variadic: bool) -> tuple[str, ...]:
    """Output names, the last one with its star if it stands for any number of them."""
    return (*outputs[:-1], f"*{outputs[-1]}") if variadic else outputs


def _read_signature(
    function: Function, where: str
) -> tuple[tuple[Param, ...], dict[str, AttributeSpec], frozenset[str]]:
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


def _vjp_from_derivative(rule: Rule, broadcasts: bool) -> Rule:
    function, n = rule.function, len(rule.values)
    if not broadcasts:

        def vjp(ct: Array, *values: Array, **attributes: Any) -> Array:
            return ct * function(*values, **attributes)

        return Rule(rule.wrt, vjp, ("ct", *rule.values), rule.attributes)

    target = f"{rule.wrt[0]}_like"
    values = ("ct", *rule.values) if target in rule.values else ("ct", *rule.values, target)
    at = values.index(target) - 1

    def vjp_broadcast(ct: Array, *values: Array, **attributes: Any) -> Array:
        return unbroadcast(ct * function(*values[:n], **attributes), values[at])

    skippable = () if target in rule.values else (target,)
    return Rule(rule.wrt, vjp_broadcast, values, rule.attributes, skippable)


def _jvp_from_derivative(rule: Rule, broadcast_to: str | None) -> Rule:
    function, n = rule.function, len(rule.values)

    def jvp(x_dot: Array, *values: Array, **attributes: Any) -> Array:
        y_dot = x_dot * function(*values[:n], **attributes)
        if len(values) == n or values[n] is None or y_dot.shape == values[n].shape:
            return y_dot
        return np.broadcast_to(y_dot, values[n].shape)

    extra = (f"{broadcast_to}_like",) if broadcast_to else ()
    return Rule(rule.wrt, jvp, (f"{rule.wrt[0]}_dot", *rule.values, *extra), rule.attributes, extra)


def _sum_of_parts(parts: Sequence[Rule], values: tuple[str, ...]) -> Function:
    def jvp(*arrays: Array, **attributes: Any) -> Any:
        given = dict(zip(values, arrays, strict=True))
        total: Any = None
        for part in parts:
            picked = {a: attributes[a] for a in part.attributes if a in attributes}
            out = part.function(*(given.get(v) for v in part.values), **picked)
            total = out if total is None else _add(total, out)
        return total

    return jvp


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, (tuple, list)):
        return tuple(map(_add, a, b))
    return b if a is None else a if b is None else a + b


def _value_at_tangents(owner: Op, group: tuple[str, ...], values: tuple[str, ...]) -> Function:
    """The JVP of a linear group: the value with the group's tangents in the group's places."""

    def jvp(*arrays: Array, **attributes: Any) -> Any:
        given = dict(zip(values, arrays, strict=True))
        args: list[Array] = []
        for p in owner.inputs:
            if p.name not in group:
                args.extend(given[p.name] if p.variadic else [given[p.name]])
                continue
            dots, likes = given.get(f"{p.name}_dot"), given.get(f"{p.name}_like")
            if p.variadic:
                assert likes is not None, "the rule of a variadic input names its likes"
                args.extend(map(lists.tangent_or_zeros, dots or (None,) * len(likes), likes))
            else:
                args.append(lists.tangent_or_zeros(dots, likes))
        return owner.function(*args, **attributes)

    return jvp


def _value_at_duals(owner: Op, wrt: tuple[str, ...], values: tuple[str, ...]) -> Function:
    """The JVP by running the value function itself on dual arrays."""

    def jvp(*arrays: Array, **attributes: Any) -> Any:
        given = dict(zip(values, arrays, strict=True))
        level = next_level(*arrays)  # the arrays may be dual themselves: keep their perturbations apart from ours
        args: list[Array] = []
        for p in owner.inputs:
            xs, dots = given[p.name], given.get(f"{p.name}_dot") if p.name in wrt else None
            if p.variadic:
                dots = dots or (None,) * len(xs)
                members = tuple(lists.dual(x, d, level) for x, d in zip(xs, dots, strict=True))
                args.extend([members] if owner.grouped else members)
            else:
                args.append(lists.dual(xs, dots, level))
        result = owner.function(*args, **attributes)
        if isinstance(result, tuple) or (isinstance(result, list) and owner.many_outputs):
            return tuple(lists.tangent(r, level) for r in result)
        return lists.tangent(result, level)

    return jvp


@lru_cache(maxsize=4096)
def _elementwise_dtypes(owner: Op, dtypes: tuple[str | None, ...], attributes: tuple[Any, ...]) -> tuple[str, ...]:
    arrays = [None if d is None else np.empty((0,), numpy_dtype(d)) for d in dtypes]
    result = owner.function(*arrays, **dict(attributes))
    results = result if isinstance(result, tuple) else (result,)
    return tuple(dtype_name(np.asarray(r).dtype) for r in results)


def _range_text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
