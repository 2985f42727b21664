"""Formulas: what they mean, and that bad ones give one clear error."""

import math
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrt.errors import ExpressionError
from graphrt.expressions import evaluate, expression, function_names, grad
from graphrt.ir.expression import MAX_DEPTH, MAX_LENGTH, parse_expression
from graphrt.manager import get_registry
from graphrt.runtime.session import Session

FUNCTIONS = {"sin": ("Sin", "", 7), "max": ("Max", "", 13), "step": ("Step", "graphrt", 1)}


def value(text: str, **at: float) -> float:
    (out,) = Session(expression(text)).run(at).values()
    return float(out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2*3", 7),
        ("(1 + 2)*3", 9),
        ("8 - 3 - 2", 3),
        ("8 / 4 / 2", 1),
        ("2^3^2", 512),
        ("2**3**2", 512),
        ("-2^2", -4),
        ("-2**2 + 1", -3),
        ("2^-1", 0.5),
        ("2^-2^2", 2**-4),
        ("2*-3", -6),
        ("- - 3", 3),
        ("+3", 3),
        ("--2^2", 4),
        (".5 + 1. + 1e-1 + 2E+1", 21.6),
        ("pi", math.pi),
        ("e^1", math.e),
        ("sin(pi/2)", 1),
        ("MAX(1, 3, 2)", 3),
        ("max(1, max(2, 5)) * 2", 10),
        ("step(0, value_at_zero=0.5)", 0.5),
        ("leakyrelu(-1, alpha=-2)", 2),
        ("LeakyReLU(-1, alpha=pi)", -math.pi),
        ("gelu(0, approximate='tanh')", 0),
        ("ln(e^2)", 2),
        ("arctan(1)*4", math.pi),
        ("\n 1 \t+\n 2 ", 3),
        ("-0.0", -0.0),
    ],
)
def test_value(text, expected):
    assert value(text) == pytest.approx(expected, rel=1e-15)


def test_inputs_are_the_names_in_order_of_first_appearance():
    graph = expression("b*a + sin(b) - max*c + pi")
    assert graph.input_names == ("b", "a", "max", "c")
    assert all(str(v.type) == "float64[]" for v in graph.inputs)


OUTPUTS = [("x", "f"), ("f*x", "y"), ("f+y", "result"), ("f+y+result", "f_1"), ("3", "f")]


@pytest.mark.parametrize(("text", "output"), OUTPUTS)
def test_output_does_not_collide(text, output):
    graph = expression(text)
    assert graph.output_names == (output,)
    assert output not in graph.input_names


def test_node_names_do_not_collide_with_inputs_named_later():
    assert value("x*2 + mul + constant + add", x=1, mul=10, constant=100, add=1000) == 1112


def test_equal_numbers_are_one_constant():
    graph = parse_expression("2*x + 2*y + 0.0 - -0.0", {})
    assert [n.op_type for n in graph.nodes].count("Constant") == 3


def test_opset_of_a_function_is_imported():
    graph = parse_expression("step(x)", FUNCTIONS)
    assert graph.opset_imports["graphrt"] == 1


def test_dtype():
    graph = expression("x*2", dtype="float32")
    assert str(graph.inputs[0].type) == "float32[]"
    assert Session(graph).run({"x": 1.5})["f"].dtype == np.float32


BAD = [
    ("", "column 1: the expression is empty"),
    ("   ", "column 1: the expression is empty"),
    ("x +", "column 4: the expression ends too soon"),
    ("* x", r"column 1: an operand is missing before '\*'"),
    ("x * / y", "column 5: an operand is missing before '/'"),
    ("(x", r"column 3: the '\(' in column 1 is not closed"),
    ("sin(x", r"the '\(' in column 4 is not closed"),
    ("x)", r"column 2: this '\)' closes nothing"),
    ("()", r"column 2: an operand is missing before '\)'"),
    ("x y", "column 3: an operator is missing between 'x' and 'y'"),
    ("2x", "column 2: an operator is missing between '2' and 'x'"),
    ("2(x)", r"an operator is missing between '2' and '\('"),
    ("3..4", "an operator is missing"),
    ("1_000", "an operator is missing"),
    ("0x10", "an operator is missing"),
    ("x, y", "column 2: ',' only separates"),
    ("x = 3", "column 3: '=' is only for attributes"),
    ("sni(x)", "column 1: no function 'sni'; did you mean sin"),
    ("sin", None),
    ("sin()", "sin takes 1 input, not 0"),
    ("sin(x, y)", "sin takes 1 input, not 2"),
    ("sin(x,)", r"column 7: an operand is missing before '\)'"),
    ("sin(, x)", "column 5: an operand is missing"),
    ("step(x, value=1)", "column 9: step has no attribute 'value'; it has: value_at_zero"),
    ("step(x, value_at_zero='a')", "of kind float, not 'a'"),
    ("step(x, value_at_zero=y)", "an attribute is a number"),
    ("step(x, value_at_zero=)", "an attribute is a number"),
    ("step(x, value_at_zero=1, value_at_zero=1)", "given twice"),
    ("step(value_at_zero=1, x)", "an input of step after its attributes"),
    ("gemm(x, y, transA=0.5)", "of kind int, not 0.5"),
    ("'text'", "a string can only be the value of an attribute"),
    ("x.__class__", r"column 2: '.' has no meaning"),
    ("x.real", r"column 2: '.' has no meaning"),
    ("x[0]", r"column 2: '\[' has no meaning"),
    ("[x for x in y]", r"column 1: '\[' has no meaning"),
    ("{x}", "has no meaning"),
    ("lambda: 0", "column 7: ':' has no meaning"),
    ("lambda x: x", "an operator is missing|has no meaning"),
    ("__import__('os')", "no function '__import__'"),
    ("__builtins__", "must not begin with two underscores"),
    ("x if y else z", "an operator is missing"),
    ("x; y", "has no meaning"),
    ("x \\ y", "has no meaning"),
    ("x\0y", "has no meaning"),
    ("½", "has no meaning"),
    ("x²", "has no meaning"),
    ("x ? y", r"column 3: '\?' has no meaning"),
    ("x % y", "write mod"),
    ("x @ y", "write matmul"),
    ("9" * 400, "column 1: this number is too large for float64"),
    ("2^" + "9" * 400, "column 3: this number is too large"),
    ("1e" + "9" * 400, "this number is too large"),
    ("(" * 3000 + "x" + ")" * 3000, f"column {MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"),
    ("-" * 3000 + "x", "nested more than"),
    ("2^" * 3000 + "2", "nested more than"),
    ("sin(" * 3000 + "x" + ")" * 3000, "nested more than"),
    ("x+" * MAX_LENGTH, "characters; at most"),
    ("if(x, y, z)", "no function 'if'"),
    ("adam(x)", "no function 'adam'"),
    ("x +\ny *", "line 2, column 4"),
]


@pytest.mark.parametrize(("text", "problem"), [b for b in BAD if b[1]], ids=lambda b: str(b)[:24])
def test_bad_text(text, problem):
    with pytest.raises(ExpressionError, match=problem) as caught:
        expression(text)
    lines = str(caught.value).splitlines()
    if len(text) <= MAX_LENGTH:
        assert lines[-1].strip() == "^"
        assert max(map(len, lines[-2:])) < 120


def test_caret_points_at_the_column():
    with pytest.raises(ExpressionError, match="column") as caught:
        expression("alpha + beta * $")
    _, shown, caret = str(caught.value).splitlines()
    assert shown[caret.index("^")] == "$"


def test_number_too_large_for_a_small_type():
    with pytest.raises(ExpressionError, match="too large for float16"):
        expression("x + 1e6", dtype="float16")


def test_nested_up_to_the_limit_with_little_stack_left():
    def down(n):
        return value("(" * (MAX_DEPTH - 1) + "3" + ")" * (MAX_DEPTH - 1)) if n == 0 else down(n - 1)

    assert sys.getrecursionlimit() >= 1000
    assert down(50) == 3


def test_long_sums_do_not_recurse():
    n = 2000
    assert value("+".join(["x"] * n), x=1) == n


def test_mapping_of_functions():
    found = function_names(get_registry())
    assert found["sin"].op_type == "Sin"
    assert found["matmul"].least == found["matmul"].most == 2
    assert found["max"].most is None
    assert "if" not in found and "loop" not in found


@given(st.text(alphabet="xy01.e+-*/^(),= sin\"'_[]", max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_parses_or_raises_expression_error(text):
    with suppress(ExpressionError):
        parse_expression(text, FUNCTIONS)


_LEAVES = st.sampled_from(["x", "y", "2", "0.5"])
_TREES = st.recursive(
    _LEAVES,
    lambda t: st.one_of(
        st.tuples(t, st.sampled_from(["+", "-", "*"]), t).map(lambda p: f"({p[0]}){p[1]}({p[2]})"),
        t.map(lambda a: f"-({a})"),
        t.map(lambda a: f"sin({a})"),
    ),
    max_leaves=8,
)


@given(_TREES, st.floats(-2, 2), st.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_agrees_with_python(text, x, y):
    expected = eval(text, {"sin": np.sin, "x": np.float64(x), "y": np.float64(y)})
    at = {k: v for k, v in {"x": x, "y": y}.items() if k in expression(text).input_names}
    assert value(text, **at) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_gradient(mode):
    found, gradient = grad("x*y + sin(x)", {"x": 3.0, "y": 0.0}, mode=mode)
    assert float(found) == math.sin(3)
    assert float(gradient["x"]) == pytest.approx(math.cos(3), rel=1e-15)
    assert float(gradient["y"]) == 3


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_gradient_of_arrays(mode):
    _, gradient = grad("reducesum(x*x*y)", {"x": [1.0, 2.0], "y": 3.0}, mode=mode)
    np.testing.assert_allclose(gradient["x"], [6, 12])
    assert gradient["y"].shape == ()
    assert float(gradient["y"]) == 5


def test_evaluate():
    assert evaluate("pi/2") == math.pi / 2
    with pytest.raises(ExpressionError, match="nothing says what x is"):
        evaluate("x + 1")
