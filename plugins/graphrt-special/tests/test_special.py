"""Every op through the kit, and values and slopes from published tables."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_special import graphrt_register_ops

from graphrt.io import load, save
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_manager
from graphrt.runtime.session import Session
from graphrt.testing import check_op

DOMAIN = "graphrt.special"
OPS = [o for module in graphrt_register_ops() for o in module.load().values()]


@pytest.mark.parametrize("op", OPS, ids=lambda o: o.op_type)
def test_op(op):
    check_op(op)


def test_the_plugin_is_found():
    status = {s.name: s for s in get_manager().statuses()}["special"]
    assert (status.state, status.distribution, status.hooks) == ("ok", "graphrt-special", ("ops",))


# Abramowitz and Stegun, tables 6.1, 9.1, 9.8, 7.1 and 5.1
TABLE = [
    ("Gamma", 1.5, 0.8862269255),
    ("Digamma", 1.0, -0.5772156649),
    ("Trigamma", 1.0, 1.6449340668),
    ("J0", 2.4, 0.0025076833),
    ("J1", 2.0, 0.5767248078),
    ("Y0", 1.0, 0.0882569642),
    ("I0", 1.0, 1.2660658778),
    ("Erfc", 0.5, 0.4795001222),
    ("Expi", 1.0, 1.8951178164),
    ("LambertW", float(np.e), 1.0),
]


@pytest.mark.parametrize(("name", "x", "expected"), TABLE)
def test_published_values(name, x, expected):
    b = GraphBuilder(dtype="float64")
    b.output(b.op(name, b.input("x", "float64", []), domain=DOMAIN), "y")
    assert Session(b.build()).run({"x": x})["y"] == pytest.approx(expected, abs=1e-9)


def test_a_gamma_likelihood_is_fitted():
    """The maximum-likelihood shape of a gamma distribution solves log(k) - psi(k) = s; gradient steps find it."""
    data = np.random.default_rng(0).gamma(3.0, size=400)
    s = np.log(data.mean()) - np.log(data).mean()
    b = GraphBuilder(dtype="float64")
    k = b.parameter("k", np.float64(1.0))
    b.output(s * k + b.op("LGamma", k, domain=DOMAIN) - k * b.Log(k) + k, "f")
    session = Session(b.build())
    for _ in range(60):
        gradient, step = session.hvp({}, {"k": np.float64(1.0)})
        session.parameters["k"] = session.parameters["k"] - gradient["k"] / step["k"]
    k = float(session.parameters["k"])
    from scipy.special import digamma

    assert np.log(k) - digamma(k) == pytest.approx(s, abs=1e-9)


def test_a_saved_graph_says_what_it_needs(tmp_path):
    b = GraphBuilder(dtype="float64")
    b.output(b.op("J0", b.input("x", "float64", []), domain=DOMAIN), "y")
    save(b.build(), tmp_path / "bessel.grt")
    assert load(tmp_path / "bessel.grt").requires == {DOMAIN: "graphrt-special>=0.1.0"}
