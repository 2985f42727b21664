"""What must hold of derivatives of any graph: the modes agree with each other and with differences."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrt.runtime.interpreter import RunContext, execute
from graphrt.runtime.session import Session
from graphrt.runtime.steps import ABSENT, CONTEXT_SLOT

from .graphs import WRT, Drawn, drawn_graphs

examples = settings(max_examples=150, deadline=None)
few = settings(max_examples=50, deadline=None)
H = 1e-6


def session_of(drawn: Drawn) -> Session:
    return Session(drawn.graph)


def direction(drawn: Drawn, seed: int, names=WRT):
    rng = np.random.default_rng(seed)
    return {k: rng.normal(size=drawn.leaf(k).shape) for k in names}


def inner(a, b):
    return float(sum(np.sum(a[k] * b[k]) for k in a))


def moved(drawn: Drawn, session: Session, d, h):
    """Points and weights moved along a direction; returns the feeds, and sets the session's weights."""
    session.parameters["w"] = drawn.weights + h * d["w"] if "w" in d else drawn.weights
    return {k: x + h * d[k] if k in d else x for k, x in drawn.at.items()}


def along(drawn: Drawn, session: Session, d, of: str):
    """The central difference of a value along a direction."""
    ends = [session.run(moved(drawn, session, d, h), [of])[of] for h in (H, -H)]
    session.parameters["w"] = drawn.weights
    return (ends[0] - ends[1]) / (2 * H)


def gradient(drawn: Drawn, session: Session):
    return session.value_and_grad(drawn.at, of="f", wrt=WRT)[1]


@given(drawn_graphs(), st.integers(0, 99))
@examples
def test_reverse_equals_forward_equals_differences(drawn, seed):
    session = session_of(drawn)
    value, g = session.value_and_grad(drawn.at, of="f", wrt=WRT)
    d = direction(drawn, seed)
    outputs, tangents = session.jvp(drawn.at, d)
    assert np.array_equal(outputs["f"], value)
    np.testing.assert_allclose(tangents["f"], inner(g, d), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(along(drawn, session, d, "f"), inner(g, d), rtol=1e-5, atol=1e-6)
    y = drawn.graph.output_names[-1]
    np.testing.assert_allclose(along(drawn, session, d, y), tangents[y], rtol=1e-5, atol=1e-6)
    for k in WRT:
        assert (g[k].shape, g[k].dtype) == (drawn.leaf(k).shape, np.float64)


@given(drawn_graphs(most=6), st.sampled_from(WRT))
@few
def test_jacobian_rows_equal_columns(drawn, wrt):
    session = session_of(drawn)
    y = drawn.graph.output_names[-1]
    rows = session.jacobian(drawn.at, of=y, wrt=wrt, mode="reverse")
    columns = session.jacobian(drawn.at, of=y, wrt=wrt, mode="forward")
    assert rows.shape == columns.shape == session.run(drawn.at)[y].shape + drawn.leaf(wrt).shape
    np.testing.assert_allclose(rows, columns, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(session.jacobian(drawn.at, of=y, wrt=wrt).shape, rows.shape)


@given(drawn_graphs(most=6), st.integers(0, 99))
@few
def test_hessian_is_symmetric_and_the_difference_of_gradients(drawn, seed):
    session = session_of(drawn)
    u, v = direction(drawn, seed), direction(drawn, seed + 1)
    g, hu = session.hvp(drawn.at, u, of="f")
    _, hv = session.hvp(drawn.at, v, of="f")
    np.testing.assert_allclose(inner(hu, v), inner(hv, u), rtol=1e-8, atol=1e-9)
    for k, expected in gradient(drawn, session).items():
        np.testing.assert_allclose(g[k], expected, rtol=1e-9, atol=1e-11)
    ends = [session.value_and_grad(moved(drawn, session, u, h), of="f", wrt=WRT)[1] for h in (H, -H)]
    for k in WRT:
        np.testing.assert_allclose((ends[0][k] - ends[1][k]) / (2 * H), hu[k], rtol=1e-4, atol=1e-5)


@given(drawn_graphs(), st.integers(0, 99))
@few
def test_pullback_is_linear_repeatable_and_the_adjoint_of_the_pushforward(drawn, seed):
    session = session_of(drawn)
    outputs, pullback = session.vjp(drawn.at, wrt=WRT)
    rng = np.random.default_rng(seed)
    a, b = ({k: rng.normal(size=y.shape) for k, y in outputs.items()} for _ in range(2))
    back = pullback(a)
    combined = pullback({k: 2 * a[k] - 3 * b[k] for k in a})
    separate = pullback(b)
    for k in WRT:
        np.testing.assert_allclose(combined[k], 2 * back[k] - 3 * separate[k], rtol=1e-9, atol=1e-10)
        np.testing.assert_array_equal(pullback(a)[k], back[k])
        assert not np.any(pullback({})[k])
    d = direction(drawn, seed)
    np.testing.assert_allclose(inner(session.jvp(drawn.at, d)[1], a), inner(d, back), rtol=1e-9, atol=1e-9)


@given(drawn_graphs())
@few
def test_order_of_nodes_unused_nodes_and_extra_outputs_change_nothing(drawn):
    session = session_of(drawn)
    expected = gradient(drawn, session)
    backwards = Session(drawn.graph.replace(nodes=drawn.graph.nodes[::-1]))
    alone = Session(drawn.graph.replace(outputs=drawn.graph.outputs[:1]))
    twice = Session(drawn.graph.replace(outputs=(*drawn.graph.outputs, *drawn.graph.outputs)))
    for other in (backwards, alone, twice):
        found = gradient(drawn, other)
        for k in WRT:
            np.testing.assert_allclose(found[k], expected[k], rtol=1e-12, atol=1e-13)
    assert set(twice.run(drawn.at)) == set(drawn.graph.output_names)


@given(drawn_graphs())
@few
def test_observers_do_not_change_bits(drawn):
    class Silent:
        def on_node(self, node, inputs, outputs):
            pass

    plain, watched = session_of(drawn), Session(drawn.graph, observers=[Silent()])
    for k, g in gradient(drawn, plain).items():
        assert np.array_equal(g, gradient(drawn, watched)[k])


@given(drawn_graphs())
@few
def test_invariants_of_plans_of_random_graphs(drawn):
    session = session_of(drawn)
    session.value_and_grad(drawn.at, of="f", wrt=["x", "w"])
    session.run(drawn.at)
    for plan in session._plans.values():
        ready = {ABSENT, CONTEXT_SLOT, *plan.feeds.values()} | {i for i, x in enumerate(plan.slots) if x is not None}
        lasting = {b.slot for b in plan.buffers} | {slot for step in plan.steps for slot, *_ in step.fresh}
        ready |= lasting
        gone, kept = set(), {*plan.fetches.values(), *plan.updates.values()}
        for step in plan.steps:
            assert set(step.inputs) <= ready - gone, "every value is made before it is read, and read before it goes"
            ready |= {step.output, *step.outputs}
            assert not gone & set(step.release), "released once"
            gone |= set(step.release)
            assert not kept & gone, "what is fetched stays"
        made = {s for step in plan.steps for s in (step.output, *step.outputs) if s > 0}
        made -= {b.slot for b in plan.buffers} | set(plan.preparation.made if plan.preparation else ())
        assert made == gone | (made & kept), "nothing else stays"
        slots = execute(plan, {n: drawn.at.get(n, drawn.weights) for n in plan.feeds}, RunContext())
        assert {i for i in made if slots[i] is not None} == made & kept
