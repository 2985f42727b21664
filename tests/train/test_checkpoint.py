"""A resumed training goes on bit for bit, and damaged checkpoints are refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import graphrt.optim as optim
from graphrt.errors import FormatError, InputError, PluginError, SaveError
from graphrt.format import load, save
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.session import Session
from graphrt.train import ModelCheckpoint, Trainer
from graphrt.train.checkpoint import KEY

from .models import blobs, mlp

CE = "softmax_cross_entropy"


def normalized():
    """A model with running statistics, dropout and weights of two layouts in memory."""
    rng = np.random.default_rng(0)
    b = GraphBuilder()
    h = b.input("x", "float32", ["batch", 4]) @ b.parameter("w1", rng.normal(size=(6, 4)).astype("float32").T)
    stats = [("scale", np.ones), ("shift", np.zeros), ("mean", np.zeros), ("var", np.ones)]
    h = b.BatchNormalization(h, *(b.parameter(n, f(6, "float32")) for n, f in stats))
    h = b.Dropout(b.Relu(h), np.float32(0.3))
    b.output(h @ b.parameter("w2", rng.normal(size=(6, 3)).astype("float32")), "scores")
    return b.build(metadata={"author": "someone"})


def state(trainer):
    return {k: a.tobytes() for k, a in trainer._runner.session.parameters.items()}


def trainer_of(chosen):
    return Trainer(normalized(), CE, chosen, ["accuracy"], l2=1e-3, clip_norm=1.0, seed=7)


@pytest.mark.parametrize(
    "chosen",
    [
        optim.Adam(optim.warmup_cosine(0.05, warmup=3, steps=12), amsgrad=True),
        optim.SGD(0.1, momentum=0.9, nesterov=True),
        optim.RMSprop(optim.piecewise((3, 9), (0.1, 0.05, 0.01)), momentum=0.5, centered=True),
    ],
    ids=repr,
)
def test_two_epochs_are_one_epoch_a_checkpoint_and_one_more(tmp_path, chosen):
    data, options = blobs(50), {"batch_size": 16}
    whole = trainer_of(chosen)
    whole.fit(data, blobs(20, seed=1), epochs=2, **options)
    first = trainer_of(chosen)
    first.fit(data, blobs(20, seed=1), epochs=1, **options)
    first.save_checkpoint(tmp_path / "half.grt")
    second = Trainer.resume(tmp_path / "half.grt")
    second.fit(data, blobs(20, seed=1), epochs=1, **options)
    assert state(second) == state(whole)
    assert (second.step_count, second.epoch) == (whole.step_count, whole.epoch) == (8, 2)
    for name in ("loss", "accuracy", "val_loss", "learning_rate"):
        assert second.history[name] == whole.history[name]
    assert second.evaluate(data) == whole.evaluate(data)
    assert second.graph().metadata == {"author": "someone"}
    x = {"x": data["x"]}
    np.testing.assert_array_equal(second.predict(x)["scores"], whole.predict(x)["scores"])


def test_an_epoch_that_was_cut_short_is_finished_in_the_same_order(tmp_path):
    class Crash:
        def on_step_end(self, trainer, step, metrics):
            if step == 6:
                trainer.save_checkpoint(tmp_path / "mid.grt")
                raise KeyboardInterrupt

    data = blobs(50)
    whole, cut = trainer_of(optim.Adam(0.01)), trainer_of(optim.Adam(0.01))
    whole.fit(data, epochs=2, batch_size=16)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(data, epochs=2, batch_size=16, callbacks=[Crash()])
    resumed = Trainer.resume(tmp_path / "mid.grt")
    resumed.fit(data, epochs=1, batch_size=16)
    cut.fit(data, epochs=1, batch_size=16)
    assert state(resumed) == state(whole) == state(cut)


def test_a_checkpoint_is_a_graph_that_trains_by_itself(tmp_path):
    data = blobs()
    trainer = Trainer(mlp(), CE, optim.Adam(0.01))
    trainer.step(data.arrays)
    trainer.save_checkpoint(tmp_path / "c.grt")
    session = Session(load(tmp_path / "c.grt"))
    session.step = 1
    out = session.run({"x": data["x"], "target": data["label"], "learning_rate": 0.01, "step": 2})
    assert out["softmaxcrossentropyloss"] == trainer.step(data.arrays)["loss"]
    for name, a in trainer.weights().items():
        np.testing.assert_array_equal(session.parameters[name], a)


def test_a_function_as_loss_is_kept_and_as_rate_or_metric_is_refused(tmp_path):
    path, batch = tmp_path / "c.grt", blobs().arrays
    trainer = Trainer(mlp(), lambda b, p, t: b.SoftmaxCrossEntropyLoss(p, t))
    trainer.save_checkpoint(path)
    assert Trainer.resume(path).step(batch) == trainer.step(batch)
    with pytest.raises(InputError, match="cannot hold a function: the learning rate"):
        Trainer(mlp(), CE, optim.Adam(lambda step: 0.1)).save_checkpoint(path)
    with pytest.raises(InputError, match="cannot hold a function: the metric 'half'"):
        Trainer(mlp(), CE, metrics=[half]).save_checkpoint(path)
    with pytest.raises(InputError, match=re.escape("a checkpoint is a .grt file")):
        trainer.save_checkpoint(tmp_path / "c.json")
    with pytest.raises(SaveError):
        trainer.save_checkpoint(tmp_path / "nowhere" / "c.grt")
    assert Trainer.resume(path).step_count == 0


def half(prediction, target):
    return 0.5 + 0 * target


def test_checkpoints_of_the_best_epoch_and_of_every_nth(tmp_path):
    callbacks = [
        ModelCheckpoint(tmp_path / "at-{epoch}.grt", every=2),
        ModelCheckpoint(tmp_path / "best.grt", only_best=True, monitor="val_accuracy"),
    ]
    trainer = Trainer(mlp(), CE, optim.Adam(0.05), ["accuracy"])
    history = trainer.fit(blobs(), blobs(seed=3), epochs=5, callbacks=callbacks)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["at-2.grt", "at-4.grt", "best.grt"]
    assert Trainer.resume(tmp_path / "at-4.grt").epoch == 4
    assert Trainer.resume(tmp_path / "best.grt").epoch == int(np.argmax(history["val_accuracy"])) + 1


@pytest.fixture
def checkpoint(tmp_path):
    Trainer(mlp(), CE, metrics=["accuracy"]).save_checkpoint(tmp_path / "c.grt")
    return tmp_path / "c.grt"


def test_a_plain_model_is_no_checkpoint(tmp_path):
    save(mlp(), tmp_path / "m.grt")
    with pytest.raises(FormatError, match="a graph but no checkpoint"):
        Trainer.resume(tmp_path / "m.grt")


def _set(key, value):
    def change(entry):
        *way, last = key.split(".")
        for k in way:
            entry = entry[k]
        entry[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("version", 99),
        _set("step", 3),
        _set("step.loss", "nope"),
        _set("step.learning_rate", "nope"),
        _set("step.gradients", {"nope": "g"}),
        _set("model", {"graph": "{", "initializers": []}),
        _set("model.initializers", ["nope"]),
        _set("evaluation.loss", "nope"),
        _set("learning_rate", "fast"),
        _set("learning_rate", {"schedule": "cosine", "settings": {"nope": 1}}),
        _set("seed", -1),
        _set("progress.unfinished", [1]),
        _set("progress.history", [{"loss": []}]),
        _set("progress.step", None),
    ],
    ids=lambda c: "-".join(str(v.cell_contents) for v in c.__closure__),
)
def test_damaged_entries_are_refused(checkpoint, change):
    graph = load(checkpoint, mmap=False)
    entry = json.loads(graph.metadata[KEY])
    change(entry)
    save(graph.replace(metadata={KEY: json.dumps(entry)}), checkpoint)
    with pytest.raises(FormatError, match=r"c\.grt: the checkpoint's entry is not valid"):
        Trainer.resume(checkpoint)


def test_metrics_that_are_not_installed_are_named(checkpoint):
    graph = load(checkpoint, mmap=False)
    text = graph.metadata[KEY].replace('"accuracy"', '"brier"')
    save(graph.replace(metadata={KEY: text}), checkpoint)
    with pytest.raises(PluginError, match="metrics: there is no 'brier'"):
        Trainer.resume(checkpoint)
