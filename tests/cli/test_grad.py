"""``grad`` and ``trace``."""

import math

import numpy as np
import pytest

import graphrt as gr


def test_json(cli):
    found = cli("grad", "x*y + sin(x)", "--at", "x=3", "--at", "y=0", "--json").json()
    assert found == {
        "value": pytest.approx(math.sin(3), rel=1e-15),
        "gradient": {"x": pytest.approx(math.cos(3), rel=1e-15), "y": 3.0},
    }


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_modes_agree(cli, mode):
    point = ["--at", "x=2", "--at", "y=3", "--at", "z=0.5"]
    found = cli("grad", "x^y * exp(-z) / (1 + x)", *point, "--mode", mode, "--json")
    v = 8 * math.exp(-0.5) / 3
    expected = {"x": v * (1.5 - 1 / 3), "y": v * math.log(2), "z": -v}
    assert found.json()["gradient"] == {k: pytest.approx(g, rel=1e-14) for k, g in expected.items()}


def test_text(cli):
    done = cli("grad", "x^2", "--at", "x=3")
    assert done.out == "value = 9.0\nd/dx = 6.0\n"


POINTS = {"pi/2": math.pi / 2, "-1": -1, "1e-3": 1e-3, "2^10": 1024, "-sqrt(2)": -math.sqrt(2), "inf": math.inf}


@pytest.mark.parametrize(("text", "x"), POINTS.items())
def test_points(cli, text, x):
    found = cli("grad", "x", "--at", f"x={text}", "--json").json()
    assert float(found["value"]) == x


def test_formula_that_begins_with_a_minus(cli):
    assert cli("grad", "-x*y", "--at", "x=2", "--at", "y=-3", "--json").json()["gradient"] == {"x": 3.0, "y": -2.0}
    assert cli("grad", "--at", "x=2", "--json", "--", "-x").json()["value"] == -2


def test_json_has_no_nan(cli):
    found = cli("grad", "log(x)", "--at", "x=-1", "--json").json()
    assert found["value"] == "nan"
    assert cli("grad", "1/x", "--at", "x=0", "--json").json()["gradient"] == {"x": "-inf"}


def test_arrays(cli):
    found = cli("grad", "reducesum(x*x*y)", "--at", "x=[1,2,3]", "--at", "y=2", "--json").json()
    assert found["gradient"] == {"x": [4, 8, 12], "y": 14}


def test_file_with_weights(cli, tmp_path):
    b = gr.GraphBuilder(dtype="float64")
    x = b.input("x", "float64", [2])
    b.output(b.ReduceSum(b.Tanh(x * b.parameter("w", np.array([0.5, -1.0]))), keepdims=0), "loss")
    path = tmp_path / "m.grt"
    gr.save(b.build(), path)
    np.save(tmp_path / "x.npy", np.array([1.0, 2.0]))
    np.savez(tmp_path / "x.npz", x=np.array([1.0, 2.0]))
    expected = [1 * (1 - math.tanh(0.5) ** 2), 2 * (1 - math.tanh(2) ** 2)]
    for point in (["--at", "x=[1, 2]"], ["--at", f"x={tmp_path}/x.npy"], ["--data", tmp_path / "x.npz"]):
        found = cli("grad", path, *point, "--wrt", "w", "--json").json()
        assert found["gradient"] == {"w": pytest.approx(expected, rel=1e-14)}
    assert list(cli("grad", path, "--at", "x=[1,2]", "--json").json()["gradient"]) == ["x"]
    assert list(cli("grad", path, "--at", "x=[1,2]", "--wrt", "*", "--json").json()["gradient"]) == ["x", "w"]
    assert "agree" in cli("grad", path, "--at", "x=[1,2]", "--wrt", "*", "--check").out


def test_check_shows_both_errors(cli):
    found = cli("grad", "exp(x)*y", "--at", "x=1", "--at", "y=2", "--check", "--json").json()["check"]
    steps = {s["step"]: s for s in found["steps"]}
    assert found["agrees"]
    assert 1e-7 < found["best_step"] < 1e-3
    assert steps[0.1]["dominates"] == "truncation"
    assert found["steps"][-1]["dominates"] == "cancellation"
    assert steps[0.1]["error"] / steps[0.01]["error"] == pytest.approx(100, rel=0.01)
    assert [s["step"] for s in found["steps"]] == [pytest.approx(10.0**-k) for k in range(1, 16)]


def test_check_finds_a_wrong_gradient():
    from graphrt.cli.differences import check_gradient
    from graphrt.runtime.session import Session

    session = Session(gr.expression("x^3"))
    right = {"x": np.array(12.0)}
    assert check_gradient(session, {"x": 2.0}, None, right).agrees
    assert not check_gradient(session, {"x": 2.0}, None, {"x": np.array(12.006)}).agrees


def test_check_of_many_elements_goes_along_random_directions(cli):
    x = ",".join(str(i / 50) for i in range(100))
    found = cli("grad", "reducesum(sin(x))", "--at", f"x=[{x}]", "--check", "--json").json()
    assert found["check"]["agrees"]


def test_trace(cli):
    done = cli("trace", "x*y + sin(x)", "--at", "x=3", "--at", "y=0", "--count")
    assert done.code == 0
    assert "x * y" in done.out
    assert "d f/d y = 3.0" in done.out
    assert "operations" in done.out
    found = cli("trace", "x*y + sin(x)", "--at", "x=3", "--at", "y=0", "--count", "--json").json()
    rows = {r["node"]: r for r in found["rows"]}
    assert rows["x"]["derivative"] == pytest.approx(math.cos(3))
    assert rows["mul"]["local"] == {"x": 0, "y": 3}
    assert set(found["operations"]) == {"value", "reverse", "symbolic"}


def test_trace_forward(cli):
    found = cli("trace", "x*y", "--at", "x=3", "--at", "y=2", "--mode", "forward", "--wrt", "y", "--json").json()
    assert found["rows"][-1]["derivative"] == 3
