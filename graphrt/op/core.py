"""`Op`: one version of one operator, and the decorator that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from graphrt.errors import GraphrtError, NotDifferentiableError, PluginError, TypeInferenceError
from graphrt.op.derive import derive
from graphrt.op.rules import Example, Rule
from graphrt.op.schema import CONTEXT, Array, Function, Param, read_signature, segment_lengths
from graphrt.types import TensorType, ValueType, broadcast_shapes, dtype_name, numpy_dtype

OpKey: TypeAlias = tuple[str, str, int]
"""Domain, op type and version: what an op is registered under."""


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
        vjp_rules, jvp_rules, derivatives: the declared rules by input.
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
        self.inputs, self.attributes, self.context = read_signature(function, self.qualified_name)
        self._count_inputs()
        known = {p.name for p in self.inputs}
        groups = (linear,) if isinstance(linear, str) else linear
        self.linear = tuple((g,) if isinstance(g, str) else tuple(g) for g in groups)
        listed = (nondiff,) if isinstance(nondiff, str) else () if isinstance(nondiff, bool) else tuple(nondiff)
        self.nondiff = frozenset(known if nondiff is True else listed)
        self.grouped, self.skippable = False, frozenset[str]()
        for name in (*self.nondiff, *(n for g in self.linear for n in g), *self.ranges):
            if name not in known:
                raise PluginError(f"op {self.qualified_name}: {name!r} is not one of its inputs: {', '.join(known)}")
        self._begin_rules()

    def _begin_rules(self) -> None:
        self.vjp_rules: dict[str, Rule] = {}
        self.jvp_rules: dict[str, Rule] = {}
        self.derivatives: dict[str, Rule] = {}
        self._infer: Rule | None = None
        self._examples: Callable[[np.random.Generator], Iterable[Example]] | None = None
        self._derived: dict[str, Op] = {}
        self.mode_rule: Function | None = None
        self.body_vjp_rule: Function | None = None
        self.body_jvp_rule: Function | None = None

    def with_rule(self, suffix: str, rule: Rule, outputs: tuple[str, ...], spread: set[str]) -> Op:
        """The op that calls a rule of this one; ``spread`` names the values that stand for any number."""
        made = Op.__new__(Op)
        made.function, made.domain, made.version = rule.function, self.domain, self.version
        made.op_type, made.doc = f"{self.op_type}.{suffix}", rule.function.__doc__ or ""
        made.inputs = tuple(Param(n, optional=True, variadic=n in spread) for n in rule.values)
        made.attributes = {n: self.attributes[n] for n in rule.attributes if n not in CONTEXT}
        made.context = frozenset(n for n in rule.attributes if n in CONTEXT)
        made.variadic_output = outputs[-1].startswith("*")
        made.outputs = tuple(o.lstrip("*") for o in outputs)
        made.elementwise, made.linear, made.nondiff, made.ranges, made.kinks = False, (), frozenset(), {}, ()
        made.skippable = frozenset(rule.skippable)
        made.grouped = any(p.variadic for p in made.inputs)
        made._count_inputs()
        made._begin_rules()
        return made

    def __call__(self, *args: Any, **attributes: Any) -> Any:
        return self.function(*args, **attributes)

    def __repr__(self) -> str:
        return f"<op {self.qualified_name} version {self.version}>"

    @property
    def key(self) -> OpKey:
        """Domain, op type and version: what it is registered under."""
        return self.domain, self.op_type, self.version

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
        return self._declare(self.derivatives, (wrt,), ())

    def vjp(self, *wrt: str) -> Callable[[Function], Function]:
        """Declares a vector-Jacobian product for one input, or for several at once (returning a tuple).

        For a variadic input the rule returns one cotangent per member. None stands for a zero cotangent.
        """
        allowed = ("cts",) if self.variadic_output else ("ct", *(f"ct_{o}" for o in self.outputs))
        return self._declare(self.vjp_rules, wrt, allowed)

    def jvp(self, *wrt: str) -> Callable[[Function], Function]:
        """Declares what the tangents of some inputs add to the outputs' tangents (a tuple for several outputs)."""
        return self._declare(self.jvp_rules, wrt, tuple(f"{w}_dot" for w in wrt))

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
        return name in self.vjp_rules or name in self.derivatives

    def vjp_group(self, name: str) -> tuple[str, ...]:
        """The inputs whose cotangents the rule for ``name`` yields together.

        Raises:
            NotDifferentiableError: the input has no rule.
        """
        rule = self.vjp_rules.get(name) or self.derivatives.get(name)
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
            self._derived[suffix] = derive(self, suffix)
        return self._derived[suffix]

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
        counts = segment_lengths(self.inputs, len(values), segments, self.signature)
        bound = {}
        at = 0
        for param, n in zip(self.inputs, counts, strict=True):
            chunk = tuple(values[at : at + n])
            bound[param.name] = chunk if param.variadic else (chunk[0] if chunk else None)
            at += n
        return bound

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


@lru_cache(maxsize=4096)
def _elementwise_dtypes(owner: Op, dtypes: tuple[str | None, ...], attributes: tuple[Any, ...]) -> tuple[str, ...]:
    arrays = [None if d is None else np.empty((0,), numpy_dtype(d)) for d in dtypes]
    result = owner.function(*arrays, **dict(attributes))
    results = result if isinstance(result, tuple) else (result,)
    return tuple(dtype_name(np.asarray(r).dtype) for r in results)
