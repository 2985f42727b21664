"""Reads a formula such as ``"x*y + sin(x)"`` as a graph.

The grammar, from the loosest to the tightest:

=================  ===========================================================================
``a + b  a - b``   from the left
``a * b  a / b``   from the left
``-a  +a``         looser than a power, as in mathematics: ``-x^2`` is ``-(x^2)``
``a ^ b  a ** b``  from the right: ``2^3^2`` is ``2^(3^2)``; the exponent may have a sign
``f(a, k=v)``      a registered op in any case, its inputs, then its attributes (numbers, ``"strings"``)
``(a)  x  1.5e-3`` parentheses, names, numbers, and the constants ``pi`` and ``e``
=================  ===========================================================================

Every other name is an input of the graph: a scalar, in the order of first appearance. Nothing of Python is
evaluated. The text is at most `MAX_LENGTH` characters long and nests at most `MAX_DEPTH` deep.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from graphrt.errors import ExpressionError
from graphrt.ir.graph import OPSET, Graph, NameScope, Node, Value
from graphrt.ir.tokens import Token, fail_at, tokens
from graphrt.records import dataclass
from graphrt.types import TensorType, numpy_dtype

MAX_LENGTH = 20_000
"""The most characters an expression may have."""
MAX_DEPTH = 200
"""How deep parentheses, calls, signs and powers may nest."""
CONSTANTS = {"pi": math.pi, "e": math.e}
"""The names that are numbers."""

_BINARY = {"+": ("Add", 10), "-": ("Sub", 10), "*": ("Mul", 20), "/": ("Div", 20), "^": ("Pow", 40), "**": ("Pow", 40)}
_UNARY_POWER = 30
_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {"float": (int, float), "int": int, "string": str, "any": object}
_RIGHT = frozenset({"^", "**"})


class Function(NamedTuple):
    """What a function name stands for: an op, the opset version to import, and what it takes.

    ``least`` and ``most`` bound the number of inputs (None: no bound); ``attributes`` maps each attribute to
    its kind (``"int"``, ``"float"``, ``"string"``, …; see `graphrt.op.AttributeSpec`), None leaves them unchecked.
    """

    op_type: str
    domain: str = ""
    version: int = 1
    least: int = 0
    most: int | None = None
    attributes: Mapping[str, str] | None = None


def parse_expression(text: str, functions: Mapping[str, Any], *, dtype: str = "float64") -> Graph:
    """Reads a formula as a graph with scalar inputs and one output.

    Args:
        text: the formula; see the module's text for the grammar.
        functions: lower-case name to `Function`, or to the plain tuple ``(op_type, domain, version)``.
        dtype: element type of inputs and numbers.

    Returns:
        A graph whose inputs are the names in order of first appearance. Its output is ``f``; ``y`` or
        ``result`` where that is the name of an input.

    Raises:
        ExpressionError: the text is no formula; the message shows the column under the text.

    >>> print(parse_expression("x*y + 1", {}))
    graph x*y + 1 [onnx 24]
      input x: float64[]
      input y: float64[]
      mul = Mul(x, y)
      constant = Constant(value=float64(1.0))
      f = Add(mul, constant)
      output f: float64[]
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression of {len(text)} characters; at most {MAX_LENGTH} are read")
    parser = _Parser(text, functions, dtype)
    return parser.graph()


@dataclass(frozen=True, slots=True)
class _Literal:
    number: float


_Operand = _Literal | str
"""A number not yet written as a node, or the name of a value."""


class _Parser:
    """Pratt's method: `_expression` reads operators as long as they bind tighter than what is on the left."""

    def __init__(self, text: str, functions: Mapping[str, Any], dtype: str):
        self.text, self.functions, self.dtype = text, functions, dtype
        self.tokens = list(tokens(text))
        self.position = self.depth = 0
        self.variables = list(dict.fromkeys(self._variables()))
        self.scope = NameScope(self.variables)
        self.output = next((n for n in ("f", "y", "result") if n not in self.variables), "")
        self.output = self.scope.fresh(self.output or "f")
        self.nodes: list[Node] = []
        self.constants: dict[str, str] = {}
        self.opsets = {"": OPSET}

    def _variables(self) -> Iterator[str]:
        for token, after in itertools.pairwise(self.tokens):
            if token.kind == "name" and after.text not in ("(", "=") and token.text not in CONSTANTS:
                if token.text.startswith("__"):
                    self.fail(token, f"a name must not begin with two underscores: {token.text}")
                yield token.text

    def graph(self) -> Graph:
        """The whole text as a graph."""
        if len(self.tokens) == 1:
            fail_at(self.text, 0, "the expression is empty; write a formula such as x*y + sin(x)")
        result = self._expression(0)
        if self.token.kind != "end":
            self.fail(self.token, self._misplaced())
        self._name_output(self._value(result))
        scalar = TensorType(self.dtype, ())
        return Graph(
            name=" ".join(self.text.split())[:80],
            opset_imports=self.opsets,
            inputs=tuple(Value(v, scalar) for v in self.variables),
            outputs=(Value(self.output, scalar if self._is_plain() else TensorType()),),
            nodes=tuple(self.nodes),
        )

    # ---- reading -------------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def fail(self, token: Token, problem: str) -> NoReturn:
        """Points at a token."""
        fail_at(self.text, token.at, problem)

    def _take(self, sign: str, problem: str) -> None:
        if self.token.kind != "sign" or self.token.text != sign:
            self.fail(self.token, problem)
        self.position += 1

    def _expression(self, power: int) -> _Operand:
        """An operand and the operators after it that bind tighter than ``power``."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(self.token, f"nested more than {MAX_DEPTH} deep; split the expression")
        left = self._operand()
        while self.token.kind == "sign" and self.token.text in _BINARY and _BINARY[self.token.text][1] > power:
            sign = self.token.text
            op_type, binding = _BINARY[sign]
            self.position += 1
            right = self._expression(binding - 1 if sign in _RIGHT else binding)
            left = self._emit(op_type, [left, right])
        self.depth -= 1
        return left

    def _operand(self) -> _Operand:
        token = self.token
        self.position += 1
        if token.kind == "number":
            return _Literal(self._number(token))
        if token.kind == "name":
            if self.token.text == "(" and self.token.kind == "sign":
                return self._call(token)
            return _Literal(CONSTANTS[token.text]) if token.text in CONSTANTS else token.text
        if token.text == "(" and token.kind == "sign":
            inner = self._expression(0)
            self._take(")", self._unclosed(token))
            return inner
        if token.text in ("-", "+") and token.kind == "sign":
            operand = self._expression(_UNARY_POWER)
            if token.text == "+":
                return operand
            return _Literal(-operand.number) if isinstance(operand, _Literal) else self._emit("Neg", [operand])
        self.position -= 1
        return self.fail(token, self._misplaced())

    def _call(self, name: Token) -> _Operand:
        found = self.functions.get(name.text.lower())
        if found is None:
            import difflib

            near = difflib.get_close_matches(name.text.lower(), self.functions, n=3, cutoff=0.6)
            self.fail(name, f"no function {name.text!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        function = Function(*found)
        opening = self.token
        self.position += 1
        inputs: list[_Operand] = []
        attributes: dict[str, Any] = {}
        while self.token.text != ")" or self.token.kind != "sign":
            if inputs or attributes:
                self._take(",", self._unclosed(opening))
            if self.token.kind == "name" and self.tokens[self.position + 1].text == "=":
                self._attribute(name, function, attributes)
            elif attributes:
                self.fail(self.token, f"an input of {name.text} after its attributes; put inputs first")
            else:
                inputs.append(self._expression(0))
        self.position += 1
        self._check_count(name, function, len(inputs))
        self.opsets.setdefault(function.domain, function.version)
        return self._emit(function.op_type, inputs, function.domain, attributes)

    def _check_count(self, name: Token, function: Function, count: int) -> None:
        least, most = function.least, function.most
        if count < least or (most is not None and count > most):
            wanted = f"{least} or more" if most is None else f"{least}" if least == most else f"{least} to {most}"
            self.fail(name, f"{name.text} takes {wanted} input{'s' if wanted != '1' else ''}, not {count}")

    def _attribute(self, name: Token, function: Function, attributes: dict[str, Any]) -> None:
        key = self.token
        self.position += 2
        known = function.attributes
        if known is not None and key.text not in known:
            self.fail(key, f"{name.text} has no attribute {key.text!r}; it has: {', '.join(known) or 'none'}")
        if key.text in attributes:
            self.fail(key, f"the attribute {key.text!r} is given twice")
        at = self.token
        value = self._attribute_value()
        kind = None if known is None else known[key.text]
        if kind is not None and not isinstance(value, _PYTHON_TYPES.get(kind, ())):
            self.fail(at, f"the attribute {key.text!r} of {name.text} is of kind {kind}, not {value!r}")
        attributes[key.text] = float(value) if kind == "float" else value

    def _attribute_value(self) -> int | float | str:
        """A number with or without a sign, a constant, or a string; a number without point or exponent is an int."""
        sign = 1
        if self.token.text in ("-", "+"):
            sign = -1 if self.token.text == "-" else 1
            self.position += 1
        token = self.token
        self.position += 1
        if token.kind == "number":
            number = self._number(token)
            return sign * int(token.text) if token.text.isdigit() and abs(number) < 2**63 else sign * number
        if token.text in CONSTANTS:
            return sign * CONSTANTS[token.text]
        if token.kind == "string" and self.tokens[self.position - 2].text == "=":
            return token.text[1:-1]
        return self.fail(token, 'an attribute is a number or a "string"')

    def _number(self, token: Token) -> float:
        number = float(token.text)
        with np.errstate(over="ignore"):
            if not np.isfinite(numpy_dtype(self.dtype).type(number)):
                self.fail(token, f"this number is too large for {self.dtype}")
        return number

    # ---- problems ------------------------------------------------------------------------------------

    def _misplaced(self) -> str:
        token = self.token
        before = self.tokens[self.position - 1] if self.position else None
        if token.kind == "end":
            return "the expression ends too soon; an operand is missing"
        if token.kind == "string":
            return 'a string can only be the value of an attribute, as in f(x, mode="linear")'
        if token.text == ")":
            return "this ')' closes nothing" if self.depth == 0 else "an operand is missing before ')'"
        if token.text == "=":
            return "'=' is only for attributes, after the inputs: f(x, k=1)"
        if token.text == "," and self.depth == 0:
            return "',' only separates the inputs of a function"
        if before is not None and (token.kind in ("number", "name") or token.text == "("):
            return f"an operator is missing between {before.text!r} and {token.text!r}; for a product write *"
        return f"an operand is missing before {token.text!r}"

    def _unclosed(self, opening: Token) -> str:
        if self.token.kind == "end":
            return f"the '(' in column {opening.at + 1} is not closed"
        return self._misplaced()

    # ---- writing -------------------------------------------------------------------------------------

    def _emit(
        self, op_type: str, inputs: list[_Operand], domain: str = "", attributes: Mapping[str, Any] | None = None
    ) -> str:
        names = tuple(self._value(i) for i in inputs)
        made = self.scope.fresh(op_type.lower())
        self.nodes.append(Node(op_type, names, (made,), attributes or {}, domain))
        return made

    def _value(self, operand: _Operand) -> str:
        """The name of an operand; a number becomes a node, one for each number."""
        if isinstance(operand, str):
            return operand
        key = repr(operand.number)  # which tells -0.0 from 0.0
        if key not in self.constants:
            array = np.asarray(operand.number, numpy_dtype(self.dtype))
            self.constants[key] = self._emit("Constant", [], attributes={"value": array})
        return self.constants[key]

    def _name_output(self, value: str) -> None:
        """Makes the last value the output, by its name; an input goes through an Identity."""
        if value in self.variables:
            self.nodes.append(Node("Identity", (value,), (self.output,)))
            return
        at = next(i for i, n in enumerate(self.nodes) if value in n.outputs)
        n = self.nodes[at]
        self.nodes[at] = Node(n.op_type, n.inputs, (self.output,), n.attributes, n.domain, n.name)

    def _is_plain(self) -> bool:
        """Whether every node is arithmetic, which keeps scalars scalars."""
        plain = {op for op, _ in _BINARY.values()} | {"Neg", "Constant", "Identity"}
        return all(n.op_type in plain and not n.domain for n in self.nodes)
