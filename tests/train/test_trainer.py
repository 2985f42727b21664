"""Training reaches known optima, follows its options, and reports exact averages."""

from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest

import graphrt.optim as optim
from graphrt.definitions import Loss
from graphrt.errors import GraphError, InputError, NonFiniteError, NotDifferentiableError, PluginError
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.op import op
from graphrt.registry import Registry
from graphrt.runtime.session import Session
from graphrt.train import Dataset, EarlyStopping, ReduceOnPlateau, SaveHistory, Trainer, TrainingCallback
from graphrt.types import numpy_dtype

from .models import blobs, linear, mlp

CE = "softmax_cross_entropy"


def full_batch(trainer: Trainer, data: Dataset, steps: int) -> float:
    for _ in range(steps):
        loss = trainer.step(data.arrays)["loss"]
    return loss


# ---- known optima --------------------------------------------------------------------------------------


def newton_logistic(x, y, l2):
    """The minimum of logistic regression with an l2 penalty on all but the intercept, by Newton's method."""
    design = np.column_stack([x, np.ones(len(x))])
    ridge = l2 * np.diag([1.0] * x.shape[1] + [0.0])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (p - y) / len(y) + ridge @ beta
        hessian = (design * (p * (1 - p))[:, None]).T @ design / len(y) + ridge
        beta = beta - np.linalg.solve(hessian, gradient)
    return beta


def test_logistic_regression_reaches_the_minimum_that_newton_finds():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 3))
    y = (x @ [1.0, -2.0, 0.5] + rng.normal(size=80) > 0.3).astype(np.float64)
    trainer = Trainer(linear(), "binary_cross_entropy_with_logits", optim.SGD(1.0, momentum=0.9), l2=0.05)
    full_batch(trainer, Dataset({"x": x, "y": y}), 500)
    got = trainer.weights()
    np.testing.assert_allclose([*got["w"][:, 0], got["b"][0]], newton_logistic(x, y, 0.05), rtol=1e-9)


def test_linear_regression_reaches_the_least_squares_solution():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    trainer = Trainer(linear(3, 2), "mean_squared_error", optim.SGD(0.3, momentum=0.8))
    full_batch(trainer, Dataset({"x": x, "y": y}), 300)
    best = np.linalg.lstsq(np.column_stack([x, np.ones(50)]), y, rcond=None)[0]
    np.testing.assert_allclose(np.vstack([trainer.weights()["w"], trainer.weights()["b"]]), best, rtol=1e-8)


def test_xor_is_learned():
    data = Dataset({"x": np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32"), "y": [0, 1, 1, 0]})
    trainer = Trainer(mlp((2, 8, 2)), CE, optim.Adam(0.05), ["accuracy"])
    full_batch(trainer, data, 200)
    assert trainer.evaluate(data)["accuracy"] == 1.0
    assert trainer.evaluate(data)["loss"] < 0.01


@pytest.mark.parametrize("name", sorted(get_registry().table("optimizers")))
def test_every_optimizer_trains_a_model_by_its_name_and_keeps_float32(name):
    data = blobs()
    trainer = Trainer(mlp(), CE, get_registry().get("optimizers", name)(0.02), ["accuracy"])
    history = trainer.fit(data, epochs=4, batch_size=16)
    assert history["loss"][-1] < history["loss"][0]
    assert {a.dtype for a in trainer._runner.session.parameters.values()} == {np.dtype("float32")}
    assert Trainer(mlp(), CE, name).trainable == trainer.trainable


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_models_of_any_precision_keep_it(dtype):
    data = blobs(dtype=numpy_dtype(dtype))
    trainer = Trainer(mlp(dtype=dtype), CE, optim.AdamW(0.02), l1=1e-4, l2=1e-4, clip_norm=1.0)
    history = trainer.fit(data, epochs=3, batch_size=30)
    assert history["loss"][-1] < history["loss"][0]
    assert {a.dtype for a in trainer.weights().values()} == {numpy_dtype(dtype)}


def test_parameters_of_several_precisions_are_trained_together():
    b = GraphBuilder()
    h = b.Cast(b.input("x", "float32", ["batch", 4]), to=11) @ b.parameter("wide", np.ones((4, 3)))
    b.output(b.Cast(h, to=1) @ b.parameter("narrow", np.eye(3, dtype="float32")), "scores")
    trainer = Trainer(b.build(), CE, optim.Adam(0.02), l2=1e-4, clip_norm=1.0)
    history = trainer.fit(blobs(), epochs=3)
    assert history["loss"][-1] < history["loss"][0]
    assert [a.dtype.name for a in trainer.weights().values()] == ["float64", "float32"]


LOSS_TARGETS = {
    "softmax_cross_entropy": np.array([0, 1, 2, 1]),
    "cross_entropy": np.array([0, 1, 2, 1]),
    "negative_log_likelihood": np.array([0, 1, 2, 1]),
    "hinge": np.where(np.arange(12).reshape(4, 3) % 2, 1.0, -1.0),
}


@pytest.mark.parametrize("name", sorted(get_registry().table("losses")))
def test_every_loss_has_the_gradient_that_finite_differences_give(name):
    rng = np.random.default_rng(3)
    b = GraphBuilder(dtype="float64")
    x = b.input("x", "float64", ["batch", 3])
    scores = x + b.parameter("w", rng.normal(size=3))
    final = {"cross_entropy": b.Softmax, "negative_log_likelihood": b.LogSoftmax, "binary_cross_entropy": b.Sigmoid}
    b.output(final[name](scores) if name in final else scores, "p")
    batch = {"x": rng.normal(size=(4, 3)), "t": LOSS_TARGETS.get(name, rng.uniform(size=(4, 3)))}
    rate, h = 1e-3, 1e-6
    trainer = Trainer(b.build(), name, optim.GradientDescent(rate))
    start = trainer.weights()["w"]
    trainer.step(batch)
    gradient = (start - trainer.weights()["w"]) / rate
    for i in range(3):
        around = []
        for sign in (1, -1):
            trainer.set_weights({"w": start + sign * h * np.eye(3)[i]})
            around.append(trainer.evaluate(batch)["loss"])
        assert gradient[i] == pytest.approx((around[0] - around[1]) / (2 * h), rel=1e-6, abs=1e-8)


# ---- penalties, clipping, patterns -----------------------------------------------------------------------


def test_penalties_add_their_value_and_gradient_to_matrices_only():
    batch, rate = {"x": np.zeros((2, 3)), "y": np.zeros((2, 1))}, 0.1
    trainer = Trainer(linear(), "mean_squared_error", optim.GradientDescent(rate), l1=0.3, l2=0.7)
    w = trainer.weights()["w"]
    figures = trainer.step(batch)
    assert figures["loss"] == pytest.approx(0.3 * np.abs(w).sum() + 0.35 * (w**2).sum())
    np.testing.assert_allclose(trainer.weights()["w"], w - rate * (0.3 * np.sign(w) + 0.7 * w), rtol=1e-12)
    assert trainer.weights()["b"] == 0.0


def test_penalized_patterns_choose_the_parameters():
    batch = {"x": np.zeros((2, 3)), "y": np.ones((2, 1))}
    trainer = Trainer(linear(), "mean_squared_error", optim.GradientDescent(0.1), l2=1.0, penalized=["b"])
    trainer.set_weights({"b": [2.0]})
    w = trainer.weights()["w"]
    assert trainer.step(batch)["loss"] == pytest.approx(1 + 0.5 * 4)
    np.testing.assert_array_equal(trainer.weights()["w"], w)
    assert trainer.weights()["b"][0] == pytest.approx(2 - 0.1 * (2 * 1 + 2))


def test_clipping_bounds_the_global_norm_and_keeps_the_direction():
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(5, 3)), "y": 100 * rng.normal(size=(5, 1))}
    moves = []
    for clip in (None, 0.5, 1e9):
        trainer = Trainer(linear(), "mean_squared_error", optim.GradientDescent(1.0), clip_norm=clip)
        before = trainer.weights()
        trainer.step(batch)
        moves.append(np.concatenate([(before[k] - a).ravel() for k, a in trainer.weights().items()]))
    free, clipped, loose = moves
    assert np.linalg.norm(clipped) == pytest.approx(0.5, rel=1e-4)
    np.testing.assert_allclose(clipped / np.linalg.norm(clipped), free / np.linalg.norm(free), rtol=1e-9)
    np.testing.assert_allclose(loose, free)


def test_trainable_patterns_choose_and_exclude():
    g = mlp((4, 5, 5, 3))
    assert Trainer(g, CE, trainable="layer[01].*").trainable == ("layer0.w", "layer0.b", "layer1.w", "layer1.b")
    assert Trainer(g, CE, trainable=["*", "!*.b"]).trainable == ("layer0.w", "layer1.w", "layer2.w")
    assert Trainer(g, CE, trainable=["!layer0.*", "!layer1.*"]).trainable == ("layer2.w", "layer2.b")
    trainer = Trainer(g, CE, optim.Adam(0.1), trainable=["layer2.*"])
    before = trainer.weights()
    trainer.step(blobs().arrays)
    changed = {k for k, a in trainer.weights().items() if not np.array_equal(a, before[k])}
    assert changed == {"layer2.w", "layer2.b"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trainable": ["head.*"]}, "the trainable pattern 'head.*' matches nothing; there are: layer0.w, layer0.b"),
        ({"trainable": ["*", "!*"]}, "nothing to train"),
        ({"l2": -1.0}, "l2 is a number >= 0, not -1.0"),
        ({"l2": 1.0, "penalized": ["nope"]}, "the penalized pattern 'nope' matches nothing"),
        ({"clip_norm": 0.0}, "clip_norm is a number > 0"),
        ({"seed": -1}, "seed is a whole number >= 0"),
        ({"output": "nope"}, "the graph has no value 'nope'"),
        ({"optimizer": 3}, "an optimizer is a name or e.g. gr.optim.Adam(1e-3), not 3"),
        ({"metrics": ["f1", "f1"]}, "metrics have names of their own"),
        ({"metrics": [3]}, "a metric is a name, a Metric or a function"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Trainer(mlp(), CE, **{"optimizer": "Adam", **options})


@pytest.mark.parametrize("options", [{"loss": "nope"}, {"optimizer": "nope"}, {"metrics": ["nope"]}])
def test_unknown_names_are_refused_with_what_there_is(options):
    with pytest.raises(PluginError, match=r"there is no 'nope'.*; there are: "):
        Trainer(mlp(), **{"loss": CE, **options})


def test_a_parameter_the_loss_does_not_depend_on_is_left_out_or_refused_if_named():
    b = GraphBuilder()
    x = b.input("x", "float32", ["batch", 2])
    b.output(x * b.parameter("w", np.ones(2, "float32")), "y")
    b.parameter("unused", np.ones(2, "float32"))
    g = b.build()
    assert Trainer(g, "mean_squared_error").trainable == ("w",)
    with pytest.raises(InputError, match="does not depend on unused"):
        Trainer(g, "mean_squared_error", trainable=["w", "unused"])


# ---- losses of one's own ---------------------------------------------------------------------------------


def test_a_function_is_a_loss():
    trainer = Trainer(linear(), lambda b, p, t: b.ReduceMean((p - t) ** 2, keepdims=0), optim.GradientDescent(0.1))
    named = Trainer(linear(), "mean_squared_error", optim.GradientDescent(0.1))
    batch = {"x": np.ones((4, 3)), "y": np.ones((4, 1))}
    assert trainer.step(batch) == pytest.approx(named.step(batch))
    np.testing.assert_allclose(trainer.weights()["w"], named.weights()["w"])


def test_a_graph_may_compute_its_own_loss():
    b = GraphBuilder(dtype="float64")
    x, y = b.input("x", "float64", ["n", 2]), b.input("y", "float64", ["n", 1])
    p = x @ b.parameter("w", np.ones((2, 1)))
    b.output(p, "p")
    b.output(b.ReduceMean((p - y) ** 2, keepdims=0), "loss")
    trainer = Trainer(b.build(), None, optim.GradientDescent(0.1), ["mean_absolute_error"], target="y")
    batch = {"x": np.eye(2), "y": np.zeros((2, 1))}
    assert trainer.step(batch) == {"loss": 1.0, "mean_absolute_error": 1.0}
    assert trainer.step(batch)["loss"] == pytest.approx(0.81)


def test_a_loss_of_many_numbers_is_refused():
    with pytest.raises(InputError, match=re.escape("one number is needed")):
        Trainer(linear(2, 3), lambda b, p, t: p**2)
    trainer = Trainer(linear(), lambda b, p, t: (p - t) ** 2)  # whose shape is known when it is run only
    before = trainer.weights()
    with pytest.raises(GraphError, match=r"(?s)4 elements .* do not fit shape \(\).*pow\.scalar = Reshape"):
        trainer.step({"x": np.ones((4, 3)), "y": np.ones((4, 1))})
    assert_as_before(trainer, before, 0)


def test_a_missing_derivative_names_op_and_node():
    @op("Opaque", domain="test")
    def opaque(x):
        return np.sin(x)

    known = {kind: list(get_registry().table(kind).values()) for kind in ("ops", "losses", "optimizers")}
    registry = Registry.of(**{**known, "ops": [*known["ops"], opaque]})
    b = GraphBuilder(dtype="float64")
    b.output(b.domain("test").Opaque(b.input("x", "float64", ["n"]) * b.parameter("w", 1.0)), "y")
    with pytest.raises(NotDifferentiableError, match="test::Opaque"):
        Trainer(b.build(), "mean_squared_error", registry=registry)


# ---- data that do not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": None}, "the batch has no array 'x' for the model's input"),
        ({"label": None}, "nothing beside 'x' is the targets"),
        ({"other": np.zeros(90)}, "any of 'label', 'other' could be the targets; name them with target="),
        ({"label": np.zeros((90, 3))}, "(one-hot rows to class numbers: a.argmax(1))"),
        ({"x": np.zeros((90, 5), "float32")}, "dimension 1 is 5, not 4"),
    ],
)
def test_batches_that_do_not_fit_are_refused(change, message):
    batch = {k: v for k, v in {**blobs().arrays, **change}.items() if v is not None}
    with pytest.raises(InputError, match=re.escape(message)):
        Trainer(mlp(), CE).step(batch)


def test_class_numbers_with_a_loss_that_takes_none():
    with pytest.raises(InputError, match="choose a loss that takes them, such as 'softmax_cross_entropy'"):
        Trainer(mlp(), "mean_squared_error").step(blobs().arrays)


def test_target_names_the_targets_among_other_arrays():
    batch = {**blobs().arrays, "weight": np.zeros(90)}
    assert Trainer(mlp(), CE, target="label").step(batch)["loss"] > 0


def test_numbers_are_converted_where_nothing_is_lost_by_it():
    data = blobs()
    plain = Trainer(mlp(), CE).step(data.arrays)
    converted = {"x": data["x"].astype("float64"), "label": data["label"].astype("uint8")[:, None]}
    assert Trainer(mlp(), CE).step(converted) == plain
    column = {"x": np.ones((4, 3)), "y": np.array([0, 1, 1, 0])}  # [n] whole numbers for predictions [n, 1]
    same = {"x": np.ones((4, 3)), "y": np.array([[0.0], [1.0], [1.0], [0.0]])}
    assert Trainer(linear(), "mean_squared_error").step(column) == Trainer(linear(), "mean_squared_error").step(same)


# ---- fit -------------------------------------------------------------------------------------------------


def test_evaluation_counts_every_example_once_whatever_the_batch_size():
    data = blobs(50)
    trainer = Trainer(mlp(), CE, metrics=["accuracy", "f1"], l2=0.1)
    whole = trainer.evaluate(data, batch_size=50)
    for size in (1, 7, 16, 64):
        assert trainer.evaluate(data, batch_size=size) == pytest.approx(whole, rel=1e-6)


def test_training_mode_and_inference_mode():
    data = blobs()
    trainer = Trainer(mlp(dropout=0.5), CE, optim.GradientDescent(0.0))
    losses = {trainer.step(data.arrays)["loss"] for _ in range(3)}
    assert len(losses) == 3, "dropout draws anew in each step"
    plain = Trainer(mlp(), CE, optim.GradientDescent(0.0))
    assert trainer.evaluate(data) == plain.evaluate(data)
    x = {"x": data["x"]}
    np.testing.assert_array_equal(trainer.predict(x)["scores"], plain.predict(x)["scores"])


def test_running_statistics_are_updated_and_used_but_not_trained():
    b = GraphBuilder()
    h = b.input("x", "float32", ["batch", 4])
    mean, var = b.parameter("mean", np.zeros(4, "float32")), b.parameter("var", np.ones(4, "float32"))
    scale, shift = b.parameter("scale", np.ones(4, "float32")), b.parameter("shift", np.zeros(4, "float32"))
    h = b.BatchNormalization(h, scale, shift, mean, var, momentum=0.5)
    b.output(h @ b.parameter("w", np.ones((4, 3), "float32")), "scores")
    trainer = Trainer(b.build(), CE, optim.GradientDescent(0.01))
    assert trainer.trainable == ("scale", "shift", "w")
    data = blobs()
    trainer.step(data.arrays)
    np.testing.assert_allclose(trainer.weights()["mean"], data["x"].mean(0) / 2, rtol=1e-4, atol=1e-6)
    loss = trainer.evaluate(data)
    assert Trainer(trainer.graph(), CE).evaluate(data) == pytest.approx(loss)


def test_the_trained_graph_is_the_given_one_with_new_weights():
    g = mlp()
    trainer = Trainer(g, CE, optim.Adam(0.01))
    trainer.fit(blobs(), epochs=2, progress=False)
    made = trainer.graph()
    assert (made.nodes, made.inputs, made.outputs, made.name) == (g.nodes, g.inputs, g.outputs, g.name)
    assert list(made.initializers) == list(g.initializers)
    x = blobs()["x"]
    np.testing.assert_array_equal(Session(made).run({"x": x})["scores"], trainer.predict({"x": x})["scores"])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    def weights(seed):
        trainer = Trainer(mlp(dropout=0.2), CE, optim.Adam(0.01), seed=seed)
        trainer.fit(blobs(), epochs=2, batch_size=16)
        return b"".join(a.tobytes() for a in trainer.weights().values())

    assert weights(3) == weights(3) != weights(4)


class Witness(TrainingCallback):
    def __init__(self, stop_at=None):
        self.calls, self.stop_at = [], stop_at

    def on_fit_begin(self, trainer):
        self.calls.append("fit")

    def on_epoch_begin(self, trainer, epoch):
        self.calls.append(f"epoch {epoch}")

    def on_step_end(self, trainer, step, metrics):
        self.calls.append(step)
        if step == self.stop_at:
            trainer.stop("enough")

    def on_epoch_end(self, trainer, epoch, metrics):
        self.calls.append(sorted(metrics))

    def on_fit_end(self, trainer, history):
        self.calls.append("end")


def test_callbacks_are_told_everything_in_order():
    witness, data = Witness(), blobs(20)
    history = Trainer(mlp(), CE, metrics=["accuracy"]).fit(data, data, epochs=2, batch_size=10, callbacks=[witness])
    row = ["accuracy", "epoch", "learning_rate", "loss", "seconds", "val_accuracy", "val_loss"]
    assert witness.calls == ["fit", "epoch 1", 1, 2, row, "epoch 2", 3, 4, row, "end"]
    assert len(history) == 2 and history.stopped == ""


def test_a_callback_can_stop_training_within_an_epoch():
    trainer = Trainer(mlp(), CE)
    history = trainer.fit(blobs(40), epochs=5, batch_size=10, callbacks=[Witness(stop_at=6)])
    assert (trainer.step_count, len(history), history.stopped) == (6, 2, "enough")


def test_any_object_with_a_method_of_that_name_is_a_callback():
    class Small:
        seen = ()

        def on_epoch_end(self, trainer, epoch, metrics):
            self.seen += (epoch,)

    small = Small()
    Trainer(mlp(), CE).fit(blobs(), epochs=2, callbacks=[small])
    assert small.seen == (1, 2)


def test_early_stopping_waits_its_patience_and_restores_the_best_weights():
    kept = {}

    class Sabotage(TrainingCallback):
        """Keeps each epoch's weights; from epoch 3 on the weights are made worse."""

        def on_epoch_begin(self, trainer, epoch):
            if epoch > 3:
                trainer.set_weights({k: 2 * a for k, a in trainer.weights().items()})

        def on_epoch_end(self, trainer, epoch, metrics):
            kept[epoch] = trainer.weights()

    data = blobs()
    trainer = Trainer(mlp(), CE, optim.Adam(0.005))
    history = trainer.fit(data, blobs(), epochs=50, callbacks=[Sabotage()], early_stopping=2)
    best = int(np.argmin(history["val_loss"])) + 1
    assert len(history) == best + 2
    assert history.stopped.startswith(f"no improvement since epoch {best} ")
    for name, a in trainer.weights().items():
        np.testing.assert_array_equal(a, kept[best][name])
    assert trainer.evaluate(blobs())["loss"] == pytest.approx(min(history["val_loss"]))


def test_early_stopping_follows_a_metric_upwards_and_ignores_small_gains():
    stopping = EarlyStopping(3, monitor="accuracy", min_delta=0.5)
    trainer = Trainer(mlp(), CE, optim.Adam(0.05), ["accuracy"])
    history = trainer.fit(blobs(), epochs=50, early_stopping=stopping)
    assert stopping.best_epoch <= 3 and len(history) == stopping.best_epoch + 3


def test_unknown_figures_are_refused():
    with pytest.raises(InputError, match="no figure 'val_f1' to monitor; there are: epoch, loss"):
        Trainer(mlp(), CE).fit(blobs(), callbacks=[EarlyStopping(monitor="val_f1")])


def test_a_plateau_reduces_the_rate():
    trainer = Trainer(mlp(), CE, optim.GradientDescent(0.0))
    history = trainer.fit(blobs(), epochs=5, callbacks=[ReduceOnPlateau(0.5, patience=1)], shuffle=False)
    assert trainer.rate_scale == 0.25 and history["learning_rate"] == [0.0] * 5


def test_schedules_see_the_steps_over_all_epochs():
    trainer = Trainer(mlp(), CE, optim.Adam(optim.linear(0.1, steps=8)))
    history = trainer.fit(blobs(20), epochs=3, batch_size=5)
    assert history["learning_rate"] == pytest.approx([0.1 * 5 / 8, 0.1 / 8, 0.0])


def test_the_history_prints_and_saves(tmp_path):
    trainer = Trainer(mlp(), CE, metrics=["accuracy"])
    history = trainer.fit(blobs(), epochs=3, callbacks=[SaveHistory(tmp_path / "live.csv")])
    history.save(tmp_path / "history.json")
    rows = json.loads((tmp_path / "history.json").read_text())
    assert [r["loss"] for r in rows] == history["loss"] and [r["epoch"] for r in rows] == [1, 2, 3]
    lines = (tmp_path / "live.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,learning_rate,seconds" and len(lines) == 4
    assert str(history).splitlines()[0].split() == lines[0].split(",")
    with pytest.raises(InputError, match=r"a history is saved as \.json or .csv"):
        history.save(tmp_path / "history.txt")
    with pytest.raises(InputError, match="the history has no column 'f1'; it has: epoch, loss"):
        history["f1"]


def test_the_progress_bar_shows_epochs_and_losses(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    Trainer(mlp(), CE).fit(blobs(), epochs=2, progress=True)
    assert "epoch 2/2" in shown.getvalue() and "loss" in shown.getvalue()


def test_no_epochs_is_no_training():
    trainer = Trainer(mlp(), CE)
    assert len(trainer.fit(blobs(), epochs=0)) == 0 and trainer.step_count == 0
    with pytest.raises(InputError, match="epochs is a number >= 0, not -1"):
        trainer.fit(blobs(), epochs=-1)


def test_new_weights_must_fit():
    trainer = Trainer(linear(), "mean_squared_error")
    with pytest.raises(InputError, match=re.escape("'w' is float64[3, 1], the new one float64[2]")):
        trainer.set_weights({"w": np.zeros(2)})
    with pytest.raises(InputError, match="the model has no initializer 'v'; it has: w, b"):
        trainer.set_weights({"v": np.zeros(2)})


# ---- NaN -------------------------------------------------------------------------------------------------


def logarithm() -> GraphBuilder:
    b = GraphBuilder(dtype="float64")
    x = b.input("x", "float64", ["n"])
    b.output(b.Sqrt(x * b.parameter("w", 1.0) + b.parameter("c", 0.5)), "root")
    return b


def assert_as_before(trainer, weights, steps):
    assert trainer.step_count == steps
    for name, a in trainer.weights().items():
        np.testing.assert_array_equal(a, weights[name])


def test_a_nan_stops_training_at_the_node_that_made_it():
    trainer = Trainer(logarithm().build(), "mean_squared_error", optim.Adam(0.01))
    trainer.step({"x": [1.0, 2.0], "y": [0.0, 0.0]})
    weights = trainer.weights()
    with pytest.raises(NonFiniteError, match=r"step 2: the loss is nan: node 'root' made nan at \[1\]"):
        trainer.step({"x": [1.0, -5.0], "y": [0.0, 0.0]})
    assert_as_before(trainer, weights, 1)
    assert np.isfinite(trainer.step({"x": [1.0, 2.0], "y": [0.0, 0.0]})["loss"])


def test_a_broken_gradient_is_found_though_the_loss_was_finite():
    trainer = Trainer(logarithm().build(), "mean_squared_error", optim.GradientDescent(0.1))
    trainer.step({"x": [1.0], "y": [0.0]})
    weights = trainer.weights()
    zero = {"x": [-weights["c"] / weights["w"]], "y": [-1.0]}  # sqrt'(0) is infinite
    trainer.step(zero)
    with pytest.raises(NonFiniteError, match=r"step 2: the new weights are not finite: node '.*' made inf"):
        trainer.step(zero)
    assert_as_before(trainer, weights, 1)
    with pytest.raises(NonFiniteError, match="step 2: the new weights are not finite"):
        trainer.fit({k: np.array(v) for k, v in zero.items()}, epochs=1)
    assert_as_before(trainer, weights, 1)


def test_an_update_that_breaks_the_weights_is_named_though_the_gradient_has_no_finite_square():
    b = GraphBuilder("large", dtype="float32")
    b.output(b.Mul(b.parameter("w", np.ones((), "float32")), b.constant(1e25, "float32")), "loss")
    trainer = Trainer(b.build(), optimizer=optim.SGD(1e20), loss_output="loss")
    trainer.step({})
    with pytest.raises(NonFiniteError, match=r"step 1: the new weights are not finite: node 'w\.update'"):
        trainer.step({})
    assert trainer.weights()["w"] == 1


def test_a_nan_in_the_data_is_told_as_such():
    trainer = Trainer(linear(), "mean_squared_error")
    with pytest.raises(NonFiniteError, match="the input 'x' holds a NaN or an infinity"):
        trainer.step({"x": np.full((2, 3), np.nan), "y": np.zeros((2, 1))})


def test_random_ops_draw_the_same_when_a_step_is_run_again():
    b = GraphBuilder()
    x = b.input("x", "float32", ["n", 8])
    b.output(b.Log(b.Dropout(x * b.parameter("w", np.float32(1)), np.float32(0.5))), "log")
    trainer = Trainer(b.build(), "mean_squared_error", optim.GradientDescent(0.0))
    with pytest.raises(NonFiniteError, match=r"node 'log' made -inf"):
        trainer.step({"x": np.ones((4, 8)), "y": np.zeros((4, 8))})


def test_loss_definitions_can_be_given_directly():
    definition = Loss("twice", lambda b, p, t: b.ReduceMean(b.Abs(p - t) * 2, keepdims=0))
    batch = {"x": np.zeros((4, 3)), "y": np.ones((4, 1))}
    assert Trainer(linear(), definition).step(batch)["loss"] == pytest.approx(2.0)
