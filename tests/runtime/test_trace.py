"""The table of a trace: every value with its derivative, both modes, and the count of operations."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.errors import InputError
from graphrt.expressions import expression
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.operations import count_operations
from graphrt.runtime.session import Session
from graphrt.runtime.trace import trace

AT = {"x": 3.0, "y": 2.0}
FORMULAS = ["x*y + sin(x)", "(x - y) / (x*x + 1)", "exp(-x*y) ^ 2 - tanh(y)", "x*x*x + x*y*x"]


def graph(formula="x*y + sin(x)"):
    return expression(formula)


@pytest.mark.parametrize("formula", FORMULAS)
def test_derivatives_of_all_rows_satisfy_the_chain_rule(formula):
    """Reverse: d f/d v = sum over users u of (d f/d u)(d u/d v), with the local derivatives that are shown."""
    table = trace(graph(formula), AT)
    rows = {r.name: r for r in table.rows}
    assert float(rows[table.of].derivative) == 1
    for name, row in rows.items():
        users = [r for r in table.rows if name in r.local]
        if users and name != table.of:
            assert row.derivative == pytest.approx(float(sum(u.derivative * u.local[name] for u in users)))
    gradient = Session(graph(formula)).value_and_grad(AT, wrt=["x", "y"])[1]
    assert table.gradient == {k: pytest.approx(float(g)) for k, g in gradient.items()}


@pytest.mark.parametrize("formula", FORMULAS)
def test_forward_rows_satisfy_the_chain_rule(formula):
    table = trace(graph(formula), AT, mode="forward", direction={"x": 0.5, "y": -2.0})
    rows = {r.name: r for r in table.rows}
    assert (rows["x"].derivative, rows["y"].derivative) == (0.5, -2)
    for row in table.rows:
        if row.local:
            assert row.derivative == pytest.approx(sum(d * rows[k].derivative for k, d in row.local.items()))


def test_the_table_as_text():
    lines = str(trace(graph(), AT)).splitlines()
    assert lines[0].split() == [
        "node",
        "expression",
        "value",
        "local",
        "derivative",
        "d",
        f"{graph().output_names[0]}/d",
        "node",
    ]
    assert set(lines[1]) == {"-", " "}
    assert [line.split()[0] for line in lines[2:4]] == ["x", "y"]
    product = next(line for line in lines if "x * y" in line)
    assert product.split() == ["mul", "x", "*", "y", "6", "d/dx", "=", "2,", "d/dy", "=", "3", "1"]
    assert not any(line.endswith(" ") for line in lines)


def test_forward_is_along_the_first_variable_by_default():
    table = trace(graph(), AT, mode="forward")
    assert {r.name: float(r.derivative) for r in table.rows if r.name in AT} == {"x": 1, "y": 0}
    assert "d node/dt" in str(table)
    assert table.rows[-1].derivative == pytest.approx(2 + np.cos(3.0))


def test_arrays_constants_and_parameters():
    b = GraphBuilder(dtype="float64")
    x, w = b.input("x", "float64", [20]), b.parameter("w", np.full(20, 0.5))
    b.output(b.ReduceSum(b.Tanh(x * w + 1.0), keepdims=0), "f")
    table = trace(b.build(), {"x": np.ones(20)})
    text = str(table)
    assert "mul + 1" in text
    assert "float64[20] |.|=" in text
    assert table.wrt == ("x", "w")
    assert not any(r.name == "constant" for r in table.rows)


def test_what_cannot_be_traced():
    with pytest.raises(InputError, match="mode is 'reverse' or 'forward', not 'sideways'"):
        trace(graph(), AT, mode="sideways")
    b = GraphBuilder(dtype="float64")
    for name in ("f", "g"):
        b.output(b.input(f"x{name}", "float64", []) * 2.0, name)
    with pytest.raises(InputError, match="name of=: the graph has the outputs f, g"):
        trace(b.build(), {"xf": 1.0, "xg": 1.0})


def test_operations_of_a_product_and_a_sine():
    count = count_operations(graph(), AT, wrt=["x"])
    assert count.value == 3, "product, sine, sum"
    assert count.value < count.reverse
    assert count.symbolic == 2, "y + cos(x)"
    assert "value 3" in str(count)


def test_reverse_mode_costs_a_small_multiple_and_formulas_do_not():
    """The cheap-gradient principle: value and gradient cost at most a few values, whatever the sharing."""
    for depth in (2, 4, 8):
        b = GraphBuilder(dtype="float64")
        v = b.input("x", "float64", [])
        for _ in range(depth):
            v = v * v
        b.output(v, "f")
        count = count_operations(b.build(), {"x": 1.01})
        assert count.value == depth
        assert count.reverse <= 5 * count.value
        assert count.symbolic >= 2**depth - 1


def test_operations_are_counted_for_scalars_only():
    b = GraphBuilder(dtype="float64")
    b.output(b.ReduceSum(b.input("x", "float64", [2]), keepdims=0), "f")
    with pytest.raises(InputError, match="graphs of scalars only"):
        count_operations(b.build(), {"x": np.ones(2)})
