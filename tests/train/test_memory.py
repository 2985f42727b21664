"""What a training holds in memory: no weights that it has replaced, and no more in a step than it is allowed."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import graphrt.optim as optim
from graphrt.errors import InputError
from graphrt.train import Trainer

from .models import blobs, mlp

CE = "softmax_cross_entropy"
SIZES = (4, *[16] * 10, 3)


def fitted(memory_limit=None, epochs=2):
    trainer = Trainer(mlp(SIZES, dropout=0.1), CE, optim.Adam(0.01), ["accuracy"], seed=2, memory_limit=memory_limit)
    trainer.fit(blobs(100), epochs=epochs, batch_size=64, progress=False)
    return trainer


def figures(trainer):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]


def test_training_within_a_limit_is_the_same():
    free = fitted()
    peak = free.plan(blobs(64).arrays).describe().peak
    limited = fitted(int(0.8 * peak))
    assert free.recomputation is None
    assert limited.plan(blobs(64).arrays).recomputation.before == peak
    assert figures(free) == figures(limited)
    for name, a in free.weights().items():
        assert np.array_equal(a, limited.weights()[name]), name


def test_a_checkpoint_goes_on_within_a_limit(tmp_path):
    free = fitted()
    limit = int(0.8 * free.plan(blobs(64).arrays).describe().peak)
    fitted(limit, epochs=1).save_checkpoint(tmp_path / "c.grt")
    resumed = Trainer.resume(tmp_path / "c.grt", memory_limit=limit)
    resumed.fit(blobs(100), epochs=1, batch_size=64, progress=False)
    assert figures(resumed) == figures(free)
    assert resumed.recomputation is not None or resumed.plan(blobs(64).arrays).recomputation is not None


def test_a_limit_that_cannot_be_kept_changes_nothing():
    trainer = Trainer(mlp(SIZES), CE, memory_limit=100)
    before = trainer.weights()
    with pytest.raises(InputError, match=r"the limit of memory is 100 bytes; a run of 'mlp.step' takes [\d,]+, and"):
        trainer.step(blobs().arrays)
    assert trainer.step_count == 0
    assert all(np.array_equal(a, before[name]) for name, a in trainer.weights().items())
    with pytest.raises(InputError, match="number of bytes"):
        Trainer(mlp(), CE, memory_limit="much")


def test_the_initial_weights_are_let_go():
    graph = mlp()
    held = [weakref.ref(a) for a in graph.initializers.values()]
    initial = {name: a.copy() for name, a in graph.initializers.items()}
    trainer = Trainer(graph, CE, optim.SGD(0.1, momentum=0.9))
    assert all(np.array_equal(a, initial[name]) for name, a in trainer.graph().initializers.items())
    del graph
    assert not any(a() is not None for a in held)
    trainer.step(blobs().arrays)
    assert trainer.evaluate(blobs())["loss"] > 0
    assert trainer.graph().initializers.keys() == initial.keys()


def test_the_weights_of_the_caller_are_never_written_to():
    graph = mlp()
    before = {name: a.copy() for name, a in graph.initializers.items()}
    trainer = Trainer(graph, CE, optim.SGD(0.5))
    trainer.step(blobs().arrays)
    for name, a in graph.initializers.items():
        assert np.array_equal(a, before[name])
        assert not np.array_equal(a, trainer.weights()[name])


def test_weights_that_a_step_replaced_are_let_go():
    trainer = Trainer(mlp(), CE, "RMSprop")  # whose updates are not written in place
    trainer.step(blobs().arrays)
    replaced = weakref.ref(trainer._runner.session.parameters["layer0.w"])
    trainer.step(blobs().arrays)
    assert replaced() is None
