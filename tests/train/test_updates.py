"""Updates of small parameters as one: the same bits as one by one, whatever becomes of the parameters in between."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt import optim
from graphrt.manager import get_registry
from graphrt.runtime.observers import Recorder
from graphrt.runtime.session import Session
from graphrt.runtime.update_groups import LARGEST
from graphrt.train import Trainer
from graphrt.train.step import training_graph

from .models import blobs, mlp

CE = "softmax_cross_entropy"
SIZES = (4, 7, 9, 3)
OPTIMIZERS = [
    optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9),
    optim.SGD(0.1, momentum=0.9, nesterov=1, weight_decay=0.1, dampening=0.0),
    optim.Adam(0.01),
    optim.Adam(0.01, amsgrad=1),
    optim.Adam(0.01, epsilon=0.0, weight_decay=0.1),
    optim.AdamW(0.01),
    optim.RMSprop(0.01),
]


def grouped(trainer, batch):
    """How many updates each group of a step has."""
    nodes = [s.node for s in trainer.plan(batch).steps]
    return [len(n.attributes["body"].nodes) for n in nodes if n.op_type == "FusedUpdates"]


def trained(optimizer, dtype="float32", sizes=SIZES, **options):
    """The weights after some steps: with batches of two sizes, and parameters replaced in between."""
    trainer = Trainer(mlp(sizes, dtype), CE, optimizer, **options)
    batches = [blobs(n, width=sizes[0], dtype=dtype).arrays for n in (30, 90, 90, 30)]
    for batch in batches:
        trainer.step(batch)
    trainer.set_weights({"layer1.b": np.full(sizes[2], 0.25, dtype)})
    for batch in batches:
        trainer.step(batch)
    return trainer.weights()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_the_bits_are_those_of_updates_one_by_one(optimizer, dtype):
    together, single = trained(optimizer, dtype), trained(optimizer, dtype, observers=[Recorder()])
    for name, a in together.items():
        assert a.tobytes() == single[name].tobytes(), name


def test_small_parameters_are_updated_together_and_large_ones_alone():
    batch = blobs().arrays
    assert grouped(Trainer(mlp(SIZES), CE, optim.Adam(0.1)), batch) == [6]
    assert grouped(Trainer(mlp(SIZES), CE, optim.Adam(0.1, amsgrad=1)), batch) == []
    assert grouped(Trainer(mlp(SIZES), CE, optim.RMSprop(0.1)), batch) == []
    wide = mlp((4, LARGEST // 4, 2, 4, 4, 3))  # 2,048 elements, 512, 1,024 and few
    assert grouped(Trainer(wide, CE, optim.SGD(0.1)), batch) == [10]
    wide = mlp((4, LARGEST // 4 + 1, 2, 4, 4, 3))
    assert grouped(Trainer(wide, CE, optim.SGD(0.1)), batch) == [9]
    deep = mlp((4, *[40] * 12, 3))  # 160 elements, 11 times 1,600, 12 times 40, and few
    assert grouped(Trainer(deep, CE, optim.SGD(0.1)), batch) == [13, 13]
    assert grouped(Trainer(mlp(SIZES), CE, optim.Adam(0.1), trainable=["!layer0.b"]), batch) == []


def test_parameters_stay_side_by_side():
    """Also when one is replaced, or batches of another size come: that is what makes a group one update."""
    trainer = Trainer(mlp(SIZES), CE, optim.SGD(0.1, momentum=0.9))
    for n in (30, 60, 30):
        for _ in range(2):
            trainer.step(blobs(n).arrays)
        held = trainer._runner.session.parameters
        assert held["layer0.w"].base is held["layer2.b"].base is held["layer1.w.m"].base is not None
        trainer.set_weights({"layer0.b": np.ones(7, np.float32)})


@pytest.mark.parametrize("in_place", [False, True])
def test_a_session_trains_the_same_in_place_and_not(in_place):
    step = training_graph(mlp(SIZES), get_registry(), CE, optim.Adam(0.01))
    session = Session(step.graph, in_place=in_place)
    batch = blobs().arrays
    feeds = {"x": batch["x"], step.target: batch["label"], step.learning_rate: np.array(0.01, np.float32)}
    for i in range(4):
        session.run({**feeds, step.step: np.array(i + 1)})
    trainer = Trainer(mlp(SIZES), CE, optim.Adam(0.01))
    for _ in range(4):
        trainer.step(batch)
    for name, a in trainer.weights().items():
        assert a.tobytes() == session.parameters[name].tobytes(), name
