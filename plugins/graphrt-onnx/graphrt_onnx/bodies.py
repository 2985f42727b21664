"""Functions for the ops of domain ``graphrt``: bodies of ONNX ops, so that any runtime can run them.

A body is ONNX's own textual form. What depends on an attribute's kind (a reduction, an axis) is written for the node
at hand; every further variant gets a name with a number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import onnx.parser
from onnx import FunctionProto

from graphrt.plugin import ConversionError, Node, TensorType
from graphrt.types import ValueType

DOMAIN = "graphrt"
OLDEST = 18
"""The opset from which on the bodies hold."""

_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}
_MAX = (1 << 63) - 1
_REDUCE = {
    "mean": "ReduceMean <keepdims = 0> (loss)",
    "sum": "ReduceSum <keepdims = 0> (loss)",
    "none": "Identity (loss)",
}
_TARGET = "t = CastLike (target, input)"
_DIFFERENCE = f"{_TARGET}\nd = Sub (input, t)"


def _number(name: str, value: float | str, like: str) -> str:
    """A scalar in the dtype of a value; text refers to an attribute."""
    given = f"value_float: float = @{value}" if isinstance(value, str) else f"value_float = {value!r}"
    return f"{name}_ = Constant <{given}> ()\n{name} = CastLike ({name}_, {like})"


def _loss(body: str) -> Callable[[Mapping[str, Any], ValueType], str]:
    def text(attributes: Mapping[str, Any], input: ValueType) -> str:
        reduction = attributes.get("reduction", "mean")
        if reduction not in _REDUCE:
            raise ConversionError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
        eps = _EPS.get(input.dtype or "", 2.0**-23) if isinstance(input, TensorType) else 2.0**-23
        return f"{body.replace('EPS', f'{eps:.17g}')}\ny = {_REDUCE[reduction]}"

    return text


def _same(body: str) -> Callable[[Mapping[str, Any], ValueType], str]:
    return lambda attributes, input: body


def _maxout(attributes: Mapping[str, Any], input: ValueType) -> str:
    axis, pieces = attributes.get("axis", 1), attributes["pieces"]
    rest = axis + 1 if axis != -1 else _MAX
    at = axis + 1 if axis >= 0 else axis
    return f"""
        shape = Shape (x)
        zero = Constant <value_ints = [0]> ()
        axis = Constant <value_ints = [{axis}]> ()
        rest = Constant <value_ints = [{rest}]> ()
        end = Constant <value_ints = [{_MAX}]> ()
        at = Constant <value_ints = [{at}]> ()
        pieces = Constant <value_ints = [{pieces}]> ()
        before = Slice (shape, zero, axis)
        size = Gather (shape, axis)
        after = Slice (shape, rest, end)
        units = Div (size, pieces)
        split = Concat <axis = 0> (before, units, pieces, after)
        groups = Reshape <allowzero = 1> (x, split)
        y = ReduceMax <keepdims = 0> (groups, at)"""


_LINES = """
    first = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    last = Constant <value_ints = [-1]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    k0 = Slice (knots, first, last)
    k1 = Slice (knots, one, end)
    v0 = Slice (values, first, last)
    v1 = Slice (values, one, end)
    rise = Sub (v1, v0)
    run = Sub (k1, k0)
    slopes = Div (rise, run)
    s0 = Slice (slopes, first, one)
    s1 = Slice (slopes, first, last)
    before = Concat <axis = 0> (s0, s1)
    bends = Sub (slopes, before)
    xs = Unsqueeze (x, last)
    beyond = Sub (xs, k0)
    past = Relu (beyond)
    bent = Mul (past, bends)
    sum = ReduceSum <keepdims = 0> (bent, last)
    zero = Constant <value_int = 0> ()
    slope = Gather (slopes, zero)
    k = Gather (knots, zero)
    v = Gather (values, zero)
    moved = Sub (x, k)
    rose = Mul (moved, slope)
    line = Add (rose, v)
    y = Add (line, sum)"""

_STEP = f"""
    {_number("zero", 0.0, "x")}
    {_number("one", 1.0, "x")}
    {_number("middle", "value_at_zero", "x")}
    positive = Greater (x, zero)
    at = Equal (x, zero)
    rest = Where (at, middle, zero)
    y_ = Where (positive, one, rest)
    unknown = IsNaN (x)
    y = Where (unknown, x, y_)"""

_BCE = f"""{_TARGET}
    {_number("one", 1.0, "input")}
    {_number("low", "EPS", "input").replace(": float = @", " = ")}
    high = Sub (one, low)
    p = Clip (input, low, high)
    q = Sub (one, p)
    log_p = Log (p)
    log_q = Log (q)
    not_t = Sub (one, t)
    a = Mul (t, log_p)
    b = Mul (not_t, log_q)
    c = Add (a, b)
    loss = Neg (c)"""

_BCE_LOGITS = f"""{_TARGET}
    positive = Relu (input)
    product = Mul (input, t)
    size = Abs (input)
    less = Neg (size)
    tail = Softplus (less)
    linear = Sub (positive, product)
    loss = Add (linear, tail)"""

_HUBER = f"""{_DIFFERENCE}
    size = Abs (d)
    {_number("bound", "delta", "input")}
    {_number("two", 2.0, "input")}
    near = Min (size, bound)
    half = Div (near, two)
    rest = Sub (size, half)
    loss = Mul (near, rest)"""

_HINGE = f"""{_TARGET}
    {_number("one", 1.0, "input")}
    product = Mul (t, input)
    margin = Sub (one, product)
    loss = Relu (margin)"""

_FILLED = "{number}\nshape = Shape (x)\ny = Expand (n, shape)"
_LINE_OF_ATTRIBUTES = """knots_ = Constant <value_floats: floats = @knots> ()
    values_ = Constant <value_floats: floats = @values> ()
    knots = CastLike (knots_, x)
    values = CastLike (values_, x)"""

BODIES: Mapping[str, tuple[str, Callable[[Mapping[str, Any], ValueType], str]]] = {
    "Step": ("x", _same(_STEP)),
    "GeneralizedRelu": (
        "z, a",
        _same(f"{_number('zero', 0.0, 'z')}\nnegative = Less (z, zero)\naz = Mul (a, z)\ny = Where (negative, az, z)"),
    ),
    "Maxout": ("x", _maxout),
    "PiecewiseLinear": ("x", _same(_LINE_OF_ATTRIBUTES + _LINES)),
    "LearnedPiecewiseLinear": ("x, knots, values", _same(_LINES)),
    "MeanSquaredError": ("input, target", _loss(f"{_DIFFERENCE}\nloss = Mul (d, d)")),
    "MeanAbsoluteError": ("input, target", _loss(f"{_DIFFERENCE}\nloss = Abs (d)")),
    "Huber": ("input, target", _loss(_HUBER)),
    "Hinge": ("input, target", _loss(_HINGE)),
    "BinaryCrossEntropy": ("input, target", _loss(_BCE)),
    "BinaryCrossEntropyWithLogits": ("input, target", _loss(_BCE_LOGITS)),
    "ZerosLike": ("x", _same(_FILLED.format(number=_number("n", 0.0, "x")))),
    "OnesLike": ("x", _same(_FILLED.format(number=_number("n", 1.0, "x")))),
}  # fmt: skip
"""Op of domain ``graphrt`` to its inputs and the text of its body."""


class Bodies:
    """The functions that a model's nodes call.

    Args:
        types: of the graph's values.
        opset: of the default domain.
        custom: domains that are written as ops of their own.
    """

    def __init__(self, types: Mapping[str, ValueType], opset: int, custom: Collection[str]):
        self.types, self.opset, self.custom = types, opset, custom
        self._found: dict[tuple[str, str], FunctionProto] = {}

    @property
    def functions(self) -> list[FunctionProto]:
        """Those called so far."""
        return list(self._found.values())

    def call(self, node: Node) -> str | None:
        """The name of the function that does a node's work; None when there is no body.

        Raises:
            ConversionError: the graph's opset is too old for the body.
        """
        if node.domain != DOMAIN or node.op_type not in BODIES:
            return None
        if self.opset < OLDEST:
            raise ConversionError(
                f"the function for {node.qualified_op} needs opset {OLDEST}, the graph imports {self.opset}; "
                f"or pass custom_domains=[{DOMAIN!r}] to write it as an op of its own"
            )
        inputs, make = BODIES[node.op_type]
        body = make(node.attributes, self.types.get(node.inputs[0]) or TensorType())
        key = (node.op_type, body)
        if key not in self._found:
            count = sum(name == node.op_type for name, _ in self._found)
            name = f"{node.op_type}_{count + 1}" if count else node.op_type
            text = f'<domain: "{DOMAIN}", opset_import: ["": {self.opset}]> {name} ({inputs}) => (y) {{ {body} }}'
            function = onnx.parser.parse_function(text)
            function.attribute.extend(node.attributes)
            self._found[key] = function
        return self._found[key].name
