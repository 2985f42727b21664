"""`Trainer`: trains a graph, step by step or for epochs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrt.definitions import Metric, Optimizer, OptimizerDefinition
from graphrt.errors import InputError
from graphrt.ir import Graph
from graphrt.manager import get_registry
from graphrt.op import Array
from graphrt.registry import Registry
from graphrt.runtime.interpreter import Plan
from graphrt.runtime.observers import Observer
from graphrt.runtime.session import Session
from graphrt.train.callbacks import EarlyStopping, Watchers
from graphrt.train.checkpoint import Progress, read_checkpoint, write_checkpoint
from graphrt.train.data import Dataset
from graphrt.train.history import History
from graphrt.train.metrics import MetricTotals
from graphrt.train.objective import LossLike, Penalties
from graphrt.train.progress import SilentProgress, make_progress
from graphrt.train.runner import StepRunner
from graphrt.train.setup import Setup, make_setup

if TYPE_CHECKING:
    from graphrt.runtime.recomputation import Recomputation

Arrays = dict[str, Array]
Feeds = Mapping[str, Array]


class Trainer:
    """Trains a graph. The whole step (forward, loss, backward, update) is one graph that a `Session` runs.

    The loss, in training and in evaluation, is what is minimized: the mean over the examples, penalties included.

    Args:
        graph: the model. It is not changed; `graph()` gives the trained one.
        loss: a name (``"softmax_cross_entropy"``), a `graphrt.definitions.Loss`, a function ``(builder, prediction,
            target) -> value``, or None when the graph computes its loss itself.
        optimizer: a name, or e.g. ``gr.optim.Adam(1e-3)``.
        metrics: names, `graphrt.definitions.Metric` objects, or functions ``(prediction, target) -> float [n]``.
        trainable: patterns of initializer names (``["head.*", "!*.bias"]``); running statistics are never trained.
        l1, l2: adds ``l1 * sum(|w|) + l2 / 2 * sum(w^2)`` to the loss.
        penalized: patterns of the parameters that l1 and l2 are for (default: those of rank 2 and more).
        clip_norm: scales the gradients down together so that their global norm is at most this.
        seed: of shuffles and random ops.
        output: the value that is the prediction (default: the only output).
        loss_output: with ``loss=None``, the output that is the loss.
        target: name of the targets in batches (default: what is left over beside the model's inputs). For a graph
            with its own loss: the input that metrics compare the prediction to.
        observers: watch each node of each step, see `graphrt.runtime.observers`.
        registry: where everything is looked up (default: what is installed).
        memory_limit: the most bytes, or text such as ``"64 MB"``, that a step may take at once beside batch, weights
            and optimizer state; where it takes more, its backward part computes values again instead of keeping them.
            Training is the same to the bit. What it costs is in `recomputation`.

    Attributes:
        history: the figures of every epoch so far.
        epoch: how many epochs are done.

    Raises:
        InputError: a pattern matches nothing, the prediction cannot be told, an option is out of range. From a step: it
            cannot be kept within the limit of memory.
        PluginError: there is no loss, metric or optimizer of that name.
        NotDifferentiableError: an op between a trained parameter and the loss has no derivative.
    """

    def __init__(
        self,
        graph: Graph,
        loss: LossLike = None,
        optimizer: Optimizer | OptimizerDefinition | str = "Adam",
        metrics: Iterable[str | Metric | Callable[..., Any]] = (),
        trainable: Iterable[str] = ("*",),
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        penalized: Iterable[str] | None = None,
        clip_norm: float | None = None,
        seed: int = 0,
        output: str | None = None,
        loss_output: str | None = None,
        target: str | None = None,
        observers: Iterable[Observer] = (),
        registry: Registry | None = None,
        memory_limit: int | str | None = None,
    ):
        registry = get_registry() if registry is None else registry
        penalties = Penalties(l1, l2, None if penalized is None else tuple(penalized))
        setup = make_setup(
            graph,
            registry,
            loss,
            optimizer,
            metrics,
            trainable,
            penalties,
            clip_norm=clip_norm,
            seed=seed,
            output=output,
            loss_output=loss_output,
            target=target,
        )
        self._begin(setup, registry, observers, Progress(), memory_limit)

    def _begin(
        self,
        setup: Setup,
        registry: Registry,
        observers: Iterable[Observer],
        at: Progress,
        memory_limit: int | str | None,
    ) -> None:
        self._runner = StepRunner(setup, registry, observers, at.step, at.rate_scale, memory_limit)
        self._setup = setup = setup.without_weights()
        self._registry = registry
        self._evaluation = Session(setup.evaluation.graph, seed=setup.seed, registry=registry)
        self._prediction: Session | None = None
        self._feeder = setup.feeder()
        self._stopped = ""
        self._unfinished = at.unfinished
        self.epoch, self.history = at.epoch, History(list(at.history))

    # ---- steps ---------------------------------------------------------------------------------------

    @property
    def step_count(self) -> int:
        """How many steps are done."""
        return self._runner.session.step

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured beside the loss."""
        return self._setup.metrics

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the parameters that are trained."""
        return self._setup.step.parameters

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self._runner.learning_rate

    @property
    def recomputation(self) -> Recomputation | None:
        """What it cost to keep the last step within the limit of memory; None where it cost nothing."""
        plan = self._runner.session.last_plan
        return None if plan is None else plan.recomputation

    def plan(self, batch: Mapping[str, Any]) -> Plan:
        """The plan of a step on such a mini-batch: printing it shows what is done, and where every value lives."""
        return self._runner.plan(self._feeder.arrays(batch))

    @property
    def rate_scale(self) -> float:
        """A factor on the learning rate, for callbacks to set."""
        return self._runner.rate_scale

    @rate_scale.setter
    def rate_scale(self, value: float) -> None:
        self._runner.rate_scale = value

    def step(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Trains on one mini-batch.

        Args:
            batch: the model's inputs and the targets, by name, each ``[n, ...]``.

        Returns:
            The loss and the metrics of the batch, before the update.

        Raises:
            InputError: an array is missing or does not fit.
            NonFiniteError: the loss is NaN or infinite; names the node that made it so. The weights are as before.
        """
        feeds = self._feeder.arrays(batch)
        out = self._runner.advance(feeds)
        return self._figures(out, feeds)

    def _figures(self, out: Feeds, feeds: Feeds) -> dict[str, float]:
        if not self._setup.metrics:
            return {"loss": out[self._setup.step.loss].item()}
        totals = MetricTotals(self._setup.metrics)
        self._setup.count(totals, out, feeds)
        return totals.result()

    # ---- epochs --------------------------------------------------------------------------------------

    def fit(
        self,
        train: Dataset | Mapping[str, Any],
        validation: Dataset | Mapping[str, Any] | None = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: bool = True,
        callbacks: Iterable[Any] = (),
        early_stopping: EarlyStopping | int | None = None,
        progress: bool | str = "auto",
    ) -> History:
        """Trains for some epochs more.

        Args:
            train: the examples, by name.
            validation: evaluated after each epoch, as ``val_loss`` and so on.
            epochs: how many; 0 or more.
            batch_size: examples a step; the last batch of an epoch may be smaller.
            shuffle: whether each epoch has an order of its own, drawn from the seed and the epoch's number.
            callbacks: objects with any of the methods of `graphrt.train.TrainingCallback`.
            early_stopping: an `EarlyStopping`, or the patience of one, or True.
            progress: True, False, or ``"auto"``: a bar if standard error is a terminal.

        Returns:
            The history of all epochs so far, those of earlier calls included.

        Raises:
            DataError, InputError: the data do not fit.
            NonFiniteError: as for `step`.
        """
        if epochs < 0:
            raise InputError(f"epochs is a number >= 0, not {epochs}")
        data = self._feeder.dataset(train)
        held_out = None if validation is None else self._feeder.dataset(validation)
        if stopping := _stopping(early_stopping):
            callbacks = [*callbacks, stopping]
        watchers = Watchers(callbacks)
        self._stopped, last = "", self.epoch + epochs
        watchers.tell("on_fit_begin", self)
        with make_progress(progress) as bar:
            while self.epoch < last and not self._stopped:
                bar.begin_epoch(f"epoch {self.epoch + 1}/{last}", -(-len(data) // max(batch_size, 1)))
                self._run_epoch(data, held_out, batch_size, shuffle, watchers, bar)
        self.history.stopped = self._stopped
        watchers.tell("on_fit_end", self, self.history)
        return self.history

    def _run_epoch(
        self,
        data: Dataset,
        held_out: Dataset | None,
        batch_size: int,
        shuffle: bool,
        watchers: Watchers,
        bar: SilentProgress,
    ) -> None:
        began, number = time.perf_counter(), self.epoch + 1
        watchers.tell("on_epoch_begin", self, number)
        row: dict[str, float] = {"epoch": number, **self._run_batches(data, batch_size, shuffle, watchers, bar)}
        if held_out is not None:
            row |= {f"val_{k}": v for k, v in self._evaluate(held_out, batch_size).items()}
        row |= {"learning_rate": self._runner.last_rate, "seconds": time.perf_counter() - began}
        self.epoch, self._unfinished = number, (0, 0, 0)
        self.history.rows.append(row)
        bar.end_epoch(row)
        watchers.tell("on_epoch_end", self, number, row)

    def _run_batches(
        self, data: Dataset, batch_size: int, shuffle: bool, watchers: Watchers, bar: SilentProgress
    ) -> dict[str, float]:
        """The steps of one epoch, from where it was left if it was; the figures over them."""
        runner, setup = self._runner, self._setup
        done, *kind = self._unfinished
        done = done if kind == [len(data), batch_size] else 0
        totals = MetricTotals(setup.metrics)
        rng = np.random.default_rng([setup.seed, self.epoch + 1])
        for feeds in data.batches(batch_size, rng, shuffle=shuffle, start=done):
            out = runner.advance(feeds)
            setup.count(totals, out, feeds)
            done += 1
            self._unfinished = (done, len(data), batch_size)
            bar.step(done, out[setup.step.loss])
            if watchers.each_step:
                watchers.tell("on_step_end", self, self.step_count, self._figures(out, feeds))
                if self._stopped:
                    break
        runner.check_weights()
        return totals.result()

    def stop(self, reason: str = "stopped") -> None:
        """Makes `fit` end after the current step or epoch; for callbacks. The history keeps the reason."""
        self._stopped = reason

    # ---- using what was learned ----------------------------------------------------------------------

    def evaluate(self, data: Dataset | Mapping[str, Any], batch_size: int = 256) -> dict[str, float]:
        """The loss and the metrics over a data set, in inference mode: exact means, every example counted once.

        Args:
            data: the examples, by name.
            batch_size: how many are run at a time; changes nothing but memory and speed.
        """
        return self._evaluate(self._feeder.dataset(data), batch_size)

    def _evaluate(self, data: Dataset, batch_size: int) -> dict[str, float]:
        session = self._evaluation
        session.parameters = self._runner.session.parameters
        totals = MetricTotals(self._setup.metrics)
        for feeds in data.batches(batch_size):
            self._setup.count(totals, session.run(feeds), feeds, evaluating=True)
        return totals.result()

    def predict(self, inputs: Mapping[str, Any]) -> Arrays:
        """The model's outputs in inference mode, with the current weights.

        Args:
            inputs: the model's inputs, by name.

        Returns:
            Output name to array.
        """
        if self._prediction is None:
            self._prediction = Session(self._setup.model, mode="infer", seed=self._setup.seed, registry=self._registry)
        self._prediction.parameters = self._runner.session.parameters
        return self._prediction.run(inputs)

    def weights(self) -> Arrays:
        """Copies of the model's current initializers: weights, running statistics, constants."""
        current = self._runner.session.parameters
        return {k: np.array(current.get(k, a)) for k, a in self._setup.model.initializers.items()}

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Replaces initializers of the model; the optimizer's state stays as it is.

        Raises:
            InputError: the model has no such initializer, or its shape or dtype is another.
        """
        model = self._setup.model.initializers
        checked: Arrays = {}
        for name, given in weights.items():
            a = np.array(given, order="C")
            if name not in model:
                raise InputError(f"the model has no initializer {name!r}; it has: {', '.join(model)}")
            if a.shape != model[name].shape or a.dtype != model[name].dtype:
                raise InputError(
                    f"{name!r} is {model[name].dtype}{list(model[name].shape)}, the new one {a.dtype}{list(a.shape)}"
                )
            checked[name] = a
        self._runner.replace(checked)

    def graph(self) -> Graph:
        """The model as it was given, with the current weights and running statistics."""
        return self._setup.model.replace(initializers=self.weights())

    # ---- checkpoints ---------------------------------------------------------------------------------

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Writes everything needed to go on: a ``.grt`` file with the graph of a step, its weights and state.

        Raises:
            InputError: the learning rate or a metric is a function that no plug-in registers, which a file cannot hold.
            SaveError: the file cannot be written.
        """
        rows = tuple(dict(row) for row in self.history)
        at = Progress(self.step_count, self.epoch, self._unfinished, self.rate_scale, rows)
        write_checkpoint(path, self._setup, self._runner.session.parameters, at, self._registry)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        observers: Iterable[Observer] = (),
        registry: Registry | None = None,
        memory_limit: int | str | None = None,
    ) -> Trainer:
        """A trainer that goes on where a checkpoint was saved, bit for bit: same weights, state, order and draws.

        Args:
            path: what `save_checkpoint` wrote.
            observers, registry, memory_limit: as for the constructor.

        Raises:
            FormatError: the file is not a checkpoint, or damaged.
            PluginError: a schedule or metric that it names is not installed.
        """
        registry = get_registry() if registry is None else registry
        setup, at = read_checkpoint(path, registry)
        trainer = cls.__new__(cls)
        trainer._begin(setup, registry, observers, at, memory_limit)
        return trainer


def _stopping(given: EarlyStopping | int | None) -> EarlyStopping | None:
    """An `EarlyStopping` from itself, from a patience, or from True (its defaults)."""
    if isinstance(given, bool):
        return EarlyStopping() if given else None
    return EarlyStopping(given) if isinstance(given, int) else given
