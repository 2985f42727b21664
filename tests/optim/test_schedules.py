"""Schedules: their ends, their monotony, and their agreement with one another."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphrt.optim as optim
from graphrt.manager import get_registry

SETTINGS = {"rate": 0.4, "steps": 20, "warmup": 5, "period": 6, "factor": 0.5, "end": 0.01}
SPECIAL = {"piecewise": {"boundaries": (3, 9), "rates": (1.0, 0.5, 0.25)}}


def example(definition):
    names = definition.function.__code__.co_varnames[1 : definition.function.__code__.co_argcount]
    return definition(**SPECIAL.get(definition.name, {k: v for k, v in SETTINGS.items() if k in names}))


@pytest.mark.parametrize("definition", get_registry().table("schedules").values(), ids=lambda d: d.name)
def test_every_schedule_is_a_pure_positive_function_of_the_step(definition):
    schedule = example(definition)
    values = [schedule(t) for t in range(1, 200)]
    assert values == [schedule(t) for t in range(1, 200)]
    assert all(isinstance(v, float) and math.isfinite(v) and 0 <= v <= 1 for v in values)
    assert max(values[0:30]) == pytest.approx(1.0 if definition.name == "piecewise" else 0.4)


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "warmup_linear", "warmup_cosine"])
def test_after_the_last_step_the_end_stays(name):
    schedule = example(getattr(optim, name))
    assert schedule(21) == pytest.approx(0.01)
    assert schedule(21) == schedule(1000)
    assert schedule(20) > 0.01


@given(rate=st.floats(1e-6, 10), steps=st.integers(1, 100), end=st.floats(0, 1e-6))
def test_falling_schedules_fall(rate, steps, end):
    for make in (optim.linear, optim.cosine, optim.polynomial):
        values = [make(rate, steps=steps, end=end)(t) for t in range(1, steps + 2)]
        assert values[0] == pytest.approx(rate)
        assert values[-1] == pytest.approx(end, abs=1e-15)
        assert all(b <= a + 1e-15 for a, b in itertools.pairwise(values))


def test_warmup_rises_in_a_line_and_then_joins_the_other_schedule():
    warm, plain = optim.warmup_cosine(0.4, warmup=5, steps=25), optim.cosine(0.4, steps=20)
    np.testing.assert_allclose([warm(t) for t in range(1, 6)], 0.4 * np.arange(1, 6) / 5)
    assert [warm(t) for t in range(6, 40)] == [plain(t - 5) for t in range(6, 40)]


def test_steps_and_pieces():
    assert [optim.step_decay(1.0, period=3)(t) for t in (1, 3, 4, 7)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [optim.piecewise((3, 9), (1, 2, 3))(t) for t in (1, 3, 4, 9, 10)] == [1, 1, 2, 2, 3]
    assert optim.exponential(2.0, factor=0.5)(4) == 0.25


def test_one_cycle_rises_and_falls_between_its_ends():
    values = [optim.one_cycle(1.0, steps=100)(t) for t in range(1, 101)]
    assert values[0] == pytest.approx(1 / 25) and values[-1] == pytest.approx(1 / 25e4)
    top = int(np.argmax(values))
    assert top == 29 and values[top] == pytest.approx(1.0)
    assert np.all(np.diff(values[: top + 1]) > 0) and np.all(np.diff(values[top:]) < 0)


def test_restarts_begin_anew_and_grow():
    schedule = optim.cosine_restarts(1.0, period=4, growth=2)
    assert [t for t in range(1, 29) if schedule(t) == 1.0] == [1, 5, 13]


def test_inverse_sqrt_peaks_at_the_end_of_its_warmup():
    values = [optim.inverse_sqrt(1.0, warmup=10)(t) for t in range(1, 50)]
    assert int(np.argmax(values)) == 9 and values[39] == pytest.approx(0.5)
