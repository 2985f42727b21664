"""When a run's products use the threads of the BLAS, and when those that share out its kernels' work."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphrt as gr
from graphrt.runtime import threads as sharing
from graphrt.runtime.blas import thread_functions


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    """As many threads as that, and worth it for the least work."""
    monkeypatch.setattr(sharing._blas, "most", lambda: request.param)
    monkeypatch.setattr(sharing, "LEAST", 1e-3)
    monkeypatch.setattr(sharing, "UNSHARED", 1)
    return request.param


sizes = st.integers(1, 9)


@given(
    st.lists(sizes, max_size=2), sizes, sizes, sizes, st.booleans(), st.booleans(), st.integers(1, 3), st.booleans()
)  # fmt: skip
def test_shared_products(stack, rows, inner, columns, turned_a, turned_b, count, single):
    """Any shape, any orientation, matrices and stacks of them: small whole numbers, whose products are exact."""
    rng = np.random.default_rng(0)

    def matrices(n, m, turned):
        shape = (*stack, m, n) if turned else (*stack, n, m)
        x = rng.integers(-4, 5, shape).astype(np.float32)
        return x.swapaxes(-1, -2) if turned else x

    a, b = matrices(rows, inner, turned_a), matrices(inner, columns, turned_b)
    out = np.full((*stack, rows, columns), np.nan, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing._blas, "most", lambda: count)
        patch.setattr(sharing, "LEAST", 1e-3)
        patch.setattr(sharing, "UNSHARED", 1)
        if single:
            with sharing.single_blas():
                sharing.matmul(a, b, out)
        else:
            sharing.matmul(a, b, out)
    np.testing.assert_array_equal(out, np.einsum("...ij,...jk->...ik", a, b))


def test_the_blas_is_as_before_after_it_was_single():
    get, _ = thread_functions()
    before = get()
    with sharing.single_blas():
        assert get() == 1
        assert sharing.thread_count() == before
        with sharing.single_blas():
            assert get() == 1
        assert get() == 1
    assert get() == before


def test_what_is_shared_decides(threads):
    with sharing.planned_sharing() as single:
        assert not single()
        sharing.plan_product(10**6)
        assert not single()
        with sharing.planned_sharing() as inner:
            assert not inner()
        sharing.threads_for(10**6)
        assert single() == (threads > 1)
        sharing.plan_product(10**10)
        assert not single()


def mlp():
    return gr.models.mlp(6, [40], 3), {"x": np.ones((8, 6), np.float32)}


def convolutional():
    b = gr.GraphBuilder("net")
    rng = np.random.default_rng(1)
    w = b.parameter("w", rng.normal(size=(8, 3, 3, 3)).astype(np.float32))
    y = b.GlobalAveragePool(b.Relu(b.Conv(b.input("x", "float32", ["n", 3, 12, 12]), w)))
    head = b.parameter("head", rng.normal(size=(8, 3)).astype(np.float32))
    b.output(b.Gemm(b.Flatten(y), head), "scores")
    return b.build(), {"x": rng.normal(size=(8, 3, 12, 12)).astype(np.float32)}


class Watching:
    """Watches, and notes how many threads the BLAS has."""

    def __init__(self):
        self.seen = set()

    def on_node(self, node, inputs, outputs):
        self.seen.add(thread_functions()[0]())


@pytest.mark.parametrize("model", [mlp, convolutional])
def test_training_has_the_same_bits_with_an_observer(model, threads):
    graph, batch = model()
    batch |= {"target": np.arange(8) % 3}
    losses = []
    for observers in ((), (Watching(),)):
        trainer = gr.Trainer(graph, "softmax_cross_entropy", gr.optim.SGD(0.1, momentum=0.9), observers=observers)
        losses.append([trainer.step(batch)["loss"] for _ in range(4)])
    assert losses[0] == losses[1]


def test_a_plan_with_convolutions_keeps_the_blas_to_one_thread(threads):
    graph, batch = convolutional()
    get, _ = thread_functions()
    before, watching = get(), Watching()
    session = gr.Session(graph, observers=[watching])
    session.run(batch)
    assert session.last_plan.single_blas == (threads > 1)
    assert watching.seen == {1 if threads > 1 else before}
    assert get() == before


def test_a_plan_of_products_alone_leaves_them_to_the_blas(threads):
    graph, batch = mlp()
    session = gr.Session(graph)
    session.run(batch)
    assert not session.last_plan.single_blas
