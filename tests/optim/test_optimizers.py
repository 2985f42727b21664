"""The optimizers against formulas written another way: closed forms over the whole gradient history."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphrt.optim as optim
from graphrt.definitions import Optimizer, optimizer
from graphrt.errors import InputError, PluginError
from graphrt.manager import get_registry
from graphrt.testing.optimizers import OptimizerCheckError, check_optimizer
from graphrt.types import numpy_dtype

STEPS, RATE = 7, 0.1


@pytest.mark.parametrize("definition", get_registry().table("optimizers").values(), ids=lambda d: d.name)
def test_every_registered_optimizer_keeps_its_contract(definition):
    check_optimizer(definition)


def path(chosen: Optimizer, w0, gradients):
    """The parameter after each step."""
    w, state, out = w0, chosen.init(w0), []
    for t, g in enumerate(gradients, 1):
        w, state = chosen.update(w, g, state, t)
        out.append(w)
    return np.array(out)


@pytest.fixture
def history():
    rng = np.random.default_rng(5)
    return rng.normal(size=4), rng.normal(size=(STEPS, 4))


def weighted(gradients, t, factor, first=1.0):
    """sum over i <= t of factor^(t-i) g_i; the first gradient counts ``first`` times."""
    return sum(factor ** (t - i) * (first if i == 0 else 1.0) * gradients[i] for i in range(t + 1))


def test_gradient_descent_on_a_quadratic_decays_geometrically():
    a, w0 = np.array([0.5, 1.0, 3.0]), np.array([1.0, -2.0, 0.5])
    w, chosen = w0, optim.GradientDescent(RATE)
    for t in range(1, 20):
        w, _ = chosen.update(w, a * w, {}, t)
    np.testing.assert_allclose(w, (1 - RATE * a) ** 19 * w0, rtol=1e-12)


@pytest.mark.parametrize("momentum, dampening, nesterov", [(0.9, 0.0, False), (0.8, 0.3, False), (0.7, 0.0, True)])
def test_momentum_is_a_weighted_sum_of_all_gradients(history, momentum, dampening, nesterov):
    w0, g = history
    got = path(optim.SGD(RATE, momentum=momentum, dampening=dampening, nesterov=nesterov), w0, g)
    w = w0
    for t in range(STEPS):
        buffer = (1 - dampening) * weighted(g, t, momentum, first=1 / (1 - dampening))
        w = w - RATE * (g[t] + momentum * buffer if nesterov else buffer)
        np.testing.assert_allclose(got[t], w, rtol=1e-12)


def test_without_momentum_sgd_is_gradient_descent(history):
    w0, g = history
    plain = path(optim.GradientDescent(RATE, weight_decay=0.1), w0, g)
    np.testing.assert_array_equal(path(optim.SGD(RATE, weight_decay=0.1), w0, g), plain)
    assert optim.SGD(RATE).init(w0) == {}


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("kind, decay", [("Adam", 0.0), ("AdamW", 0.2)])
def test_adam_from_bias_corrected_averages(history, kind, decay, amsgrad):
    w0, g = history
    b1, b2, eps = 0.8, 0.95, 1e-3
    settings = {"beta1": b1, "beta2": b2, "epsilon": eps, "weight_decay": decay, "amsgrad": amsgrad}
    got = path(getattr(optim, kind)(RATE, **settings), w0, g)
    w, seconds = w0, []
    for t in range(STEPS):
        m = weighted(g, t, b1) * (1 - b1) / (1 - b1 ** (t + 1))
        seconds.append(weighted(g * g, t, b2) * (1 - b2))
        v = (np.max(seconds, axis=0) if amsgrad else seconds[-1]) / (1 - b2 ** (t + 1))
        w = w * (1 - RATE * decay) - RATE * m / (v**0.5 + eps)
        np.testing.assert_allclose(got[t], w, rtol=1e-11)


def test_adams_weight_decay_is_a_part_of_the_gradient(history):
    w0, g = history
    chosen, plain = optim.Adam(RATE, weight_decay=0.3), optim.Adam(RATE)
    w = v = w0
    state, other = chosen.init(w), plain.init(w)
    for t, gradient in enumerate(g, 1):
        v, other = plain.update(v, gradient + 0.3 * v, other, t)
        w, state = chosen.update(w, gradient, state, t)
    np.testing.assert_array_equal(w, v)


def test_adams_first_step_is_the_learning_rate_whatever_the_gradients_size():
    for size in (1e-3, 1.0, 1e6):
        start, g = np.zeros(3), np.array([1.0, -2.0, 3.0]) * size
        w, _ = optim.Adam(RATE).update(start, g, optim.Adam().init(start), 1)
        np.testing.assert_allclose(w, [-RATE, RATE, -RATE], rtol=1e-4)


@pytest.mark.parametrize("momentum, centered", [(0.0, False), (0.9, False), (0.0, True), (0.5, True)])
def test_rmsprop_from_weighted_moments(history, momentum, centered):
    w0, g = history
    alpha, eps = 0.9, 1e-3
    got = path(optim.RMSprop(RATE, alpha=alpha, epsilon=eps, momentum=momentum, centered=centered), w0, g)
    directions, w = [], w0
    for t in range(STEPS):
        mean = weighted(g, t, alpha) * (1 - alpha) if centered else 0
        variance = weighted(g * g, t, alpha) * (1 - alpha) - mean**2
        directions.append(g[t] / (variance**0.5 + eps))
        w = w - RATE * weighted(np.array(directions), t, momentum)
        np.testing.assert_allclose(got[t], w, rtol=1e-11)


def test_adagrad_divides_by_the_root_of_the_sum_of_squares(history):
    w0, g = history
    got = path(optim.Adagrad(RATE, learning_rate_decay=0.2, initial_accumulator=0.5, epsilon=1e-3), w0, g)
    w = w0
    for t in range(STEPS):
        w = w - RATE / (1 + 0.2 * t) * g[t] / (np.sqrt(0.5 + (g[: t + 1] ** 2).sum(0)) + 1e-3)
        np.testing.assert_allclose(got[t], w, rtol=1e-12)


@pytest.mark.parametrize("definition", optim.OPTIMIZERS, ids=lambda d: d.name)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_parameters_are_updated_in_float32(definition, dtype):
    rng, narrow = np.random.default_rng(0), numpy_dtype(dtype)
    w = rng.normal(size=50).astype(narrow)
    chosen = definition(2.0**-7)
    state = chosen.init(w)
    for t in range(1, 5):
        g = (1e-4 * rng.normal(size=50)).astype(narrow)
        wide, other = chosen.update(w.astype(np.float32), g.astype(np.float32), state, t)
        w, state = chosen.update(w, g, state, t)
        assert w.dtype == narrow and all(a.dtype == np.float32 for a in state.values())
        np.testing.assert_array_equal(w, wide.astype(narrow))
        for name, a in state.items():
            np.testing.assert_array_equal(a, other[name])


def test_state_follows_the_settings():
    assert optim.Adam().state == ("m", "v")
    assert optim.Adam(amsgrad=True).state == ("m", "v", "v_max")
    assert optim.RMSprop().state == ("v",)
    assert optim.RMSprop(momentum=0.9, centered=True).state == ("v", "m", "g_mean")


def test_defaults_are_pytorchs():
    assert optim.Adam().rate(1) == optim.AdamW().rate(1) == optim.SGD().rate(1) == 1e-3
    assert optim.RMSprop().rate(1) == optim.Adagrad().rate(1) == 1e-2
    assert optim.AdamW().settings["weight_decay"] == 0.01
    assert optim.RMSprop().settings["alpha"] == 0.99


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: optim.Adam(1e-3, beta3=1.0), "Adam has no hyperparameter 'beta3'; it has: beta1"),
        (lambda: optim.Adam(-1.0), "the learning rate is a number >= 0, not -1.0"),
        (lambda: optim.Adam(float("nan")), "the learning rate is a number >= 0, not nan"),
        (lambda: optim.Adam(1e-3, beta1="big"), "beta1 is a number, not 'big'"),
        (lambda: optim.cosine(1e-3), "schedule cosine takes (rate: 'float', steps: 'int', end: 'float' = 0.0)"),
        (lambda: optim.constant(1, 2), "schedule constant takes"),
    ],
)
def test_wrong_settings_are_refused(call, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call()


def _broken(kind):
    def mutates(w, g, learning_rate, step):
        w -= learning_rate * g
        return w

    def ascends(w, g, learning_rate, step):
        return w + learning_rate * g

    def ignores_rate(w, g, learning_rate, step):
        return w - 0.05 * g

    calls = []

    def remembers(w, g, learning_rate, step):
        calls.append(1)
        return w - learning_rate * g / len(calls)

    return optimizer("Broken")({f.__name__: f for f in (mutates, ascends, ignores_rate, remembers)}[kind])


def test_results_keep_the_dtypes_of_parameter_and_state():
    @optimizer("Wide", state=("m",))
    def wide(w, g, learning_rate, step, m):
        return w - np.float64(learning_rate) * g, m + np.float64(1)

    w = np.ones(3, "float32")
    made = wide(0.1)
    w_new, state = made.update(w, w, made.init(w), 1)
    assert (w_new.dtype, state["m"].dtype) == (np.float32, np.float32)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("mutates", "raises ValueError: .*read-only"),
        ("ascends", "500 steps take the quadratic"),
        ("ignores_rate", "a learning rate of 0 changes the parameter"),
        ("remembers", "the same arguments give another result"),
    ],
)
def test_the_check_catches_broken_optimizers(kind, message):
    with pytest.raises(OptimizerCheckError, match=message):
        check_optimizer(_broken(kind))


def test_when_names_state_and_hyperparameters():
    with pytest.raises(PluginError, match="when= maps state arrays to hyperparameters, not 'n' to 'x'"):
        optimizer("Bad", state=("m",), when={"n": "x"})(lambda w, g, learning_rate, step, m=None, *, x=0.0: w)
