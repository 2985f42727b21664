"""`Trainer`: trains a graph, step by step or for epochs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from graphrt.definitions import Metric, Optimizer, OptimizerDefinition
from graphrt.errors import InputError, NonFiniteError
from graphrt.ir import Graph
from graphrt.manager import get_registry
from graphrt.op import Array
from graphrt.registry import Registry
from graphrt.runtime.observers import Observer
from graphrt.runtime.session import Session
from graphrt.train.callbacks import EarlyStopping, TrainingCallback
from graphrt.train.checkpoint import Progress, read_checkpoint, write_checkpoint
from graphrt.train.data import Dataset
from graphrt.train.diagnosis import find_origin, is_finite
from graphrt.train.feeding import batch_length
from graphrt.train.history import History
from graphrt.train.metrics import MetricTotals
from graphrt.train.objective import LossLike, Penalties
from graphrt.train.progress import SilentProgress, make_progress
from graphrt.train.setup import Setup, make_setup
from graphrt.types import numpy_dtype

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

    Attributes:
        history: the figures of every epoch so far.
        epoch: how many epochs are done.
        rate_scale: a factor on the learning rate, for callbacks.

    Raises:
        InputError: a pattern matches nothing, the prediction cannot be told, an option is out of range.
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
        self._begin(setup, registry, observers, Progress())

    def _begin(self, setup: Setup, registry: Registry, observers: Iterable[Observer], at: Progress) -> None:
        self._setup, self._registry = setup, registry
        self._session = Session(setup.step.graph, observers=observers, seed=setup.seed, registry=registry)
        self._session.step = at.step
        self._evaluation = Session(setup.evaluation.graph, seed=setup.seed, registry=registry)
        self._prediction: Session | None = None
        self._feeder = setup.feeder()
        rate = next(v for v in setup.step.graph.inputs if v.name == setup.step.learning_rate)
        self._rate_dtype = numpy_dtype(rate.type.dtype)  # type: ignore[union-attr,arg-type]
        self._before: tuple[Arrays, Feeds, int] | None = None
        self._stopped = ""
        self._unfinished = at.unfinished
        self.epoch, self.rate_scale, self.history = at.epoch, at.rate_scale, History(list(at.history))

    # ---- steps ---------------------------------------------------------------------------------------

    @property
    def step_count(self) -> int:
        """How many steps are done."""
        return self._session.step

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
        rate = self._setup.rate
        return self.rate_scale * (float(rate(self._session.step + 1)) if callable(rate) else rate)

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
        with np.errstate(all="ignore"):
            out = self._advance(feeds)
        return self._figures(out, feeds)

    def _advance(self, feeds: Feeds) -> Arrays:
        session, names = self._session, self._setup.step
        at = session.step
        fed = dict(feeds)
        fed[names.learning_rate] = np.asarray(self.learning_rate, self._rate_dtype)
        fed[names.step] = np.asarray(at + 1, np.int64)
        before = session.parameters.copy()
        out = session.run(fed)
        if not math.isfinite(out[names.loss].item()):
            self._fail(before, fed, at, f"the loss is {out[names.loss].item()}")
        self._before = (before, fed, at)
        return out

    def _fail(self, before: Arrays, fed: Feeds, at: int, what: str) -> None:
        """Undoes the step, or the one before it if that broke the weights already, and says where it came from."""
        if self._before is not None and not all(map(is_finite, before.values())):
            before, fed, at = self._before
            what = "the new weights are not finite"
        session, setup = self._session, self._setup
        session.parameters, session.step, self._before = before, at, None
        origin = find_origin(setup.step.graph, self._registry, setup.seed, at, before, fed)
        raise NonFiniteError(
            f"step {at + 1}: {what}: {origin}\nthe weights are as before that step; "
            f"try a smaller learning rate, clip_norm=, or look at the data of this batch"
        )

    def _figures(self, out: Arrays, feeds: Feeds) -> dict[str, float]:
        if not self._setup.metrics:
            return {"loss": out[self._setup.step.loss].item()}
        totals = MetricTotals(self._setup.metrics)
        self._count(totals, out, feeds)
        return totals.result()

    def _count(self, totals: MetricTotals, out: Arrays, feeds: Feeds) -> float:
        setup = self._setup
        loss: float = out[setup.step.loss].item()
        if setup.metrics:
            totals.add(loss, batch_length(feeds), out[setup.step.prediction or ""], feeds[setup.judged or ""])
        else:
            totals.add(loss, batch_length(feeds))
        return loss

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
            early_stopping: an `EarlyStopping`, or the patience of one.
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
        stopping = EarlyStopping(early_stopping) if isinstance(early_stopping, int) else early_stopping
        watchers = [*callbacks, *([stopping] if stopping is not None else [])]
        self._stopped, last = "", self.epoch + epochs
        _tell(watchers, "on_fit_begin", self)
        with make_progress(progress) as bar:
            while self.epoch < last and not self._stopped:
                label = f"epoch {self.epoch + 1}/{last}"
                self._run_epoch(data, held_out, batch_size, shuffle, watchers, bar, label)
        self.history.stopped = self._stopped
        _tell(watchers, "on_fit_end", self, self.history)
        return self.history

    def _run_epoch(
        self,
        data: Dataset,
        held_out: Dataset | None,
        batch_size: int,
        shuffle: bool,
        watchers: list[Any],
        bar: SilentProgress,
        label: str,
    ) -> None:
        began, number = time.perf_counter(), self.epoch + 1
        position, *kind = self._unfinished
        done = position if kind == [len(data), batch_size] else 0
        bar.begin_epoch(label, -(-len(data) // batch_size), done)
        _tell(watchers, "on_epoch_begin", self, number)
        watching = [w.on_step_end for w in watchers if _overrides(w, "on_step_end")]
        totals = MetricTotals(self._setup.metrics)
        rng = np.random.default_rng([self._setup.seed, number])
        rate = self.learning_rate
        with np.errstate(all="ignore"):
            for feeds in data.batches(batch_size, rng, shuffle=shuffle, start=done):
                rate = self.learning_rate
                out = self._advance(feeds)
                loss = self._count(totals, out, feeds)
                done += 1
                self._unfinished = (done, len(data), batch_size)
                bar.step(loss)
                if watching:
                    figures = self._figures(out, feeds)
                    for tell in watching:
                        tell(self, self.step_count, figures)
                    if self._stopped:
                        break
            self._check_weights()
        row: dict[str, float] = {"epoch": number, **totals.result()}
        if held_out is not None:
            row |= {f"val_{k}": v for k, v in self._evaluate(held_out, batch_size).items()}
        row |= {"learning_rate": rate, "seconds": time.perf_counter() - began}
        self.epoch, self._unfinished = number, (0, 0, 0)
        self.history.rows.append(row)
        bar.end_epoch(row)
        _tell(watchers, "on_epoch_end", self, number, row)

    def _check_weights(self) -> None:
        parameters = self._session.parameters
        if self._before is not None and not all(map(is_finite, parameters.values())):
            self._fail(parameters, {}, self._session.step, "the new weights are not finite")

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
        session, names = self._evaluation, self._setup.evaluation
        session.parameters = self._session.parameters
        totals = MetricTotals(self._setup.metrics)
        with np.errstate(all="ignore"):
            for feeds in data.batches(batch_size):
                out = session.run(feeds)
                loss, n = out[names.loss].item(), batch_length(feeds)
                if self._setup.metrics:
                    totals.add(loss, n, out[names.prediction or ""], feeds[self._setup.judged or ""])
                else:
                    totals.add(loss, n)
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
        self._prediction.parameters = self._session.parameters
        return self._prediction.run(inputs)

    def weights(self) -> Arrays:
        """Copies of the model's current initializers: weights, running statistics, constants."""
        current = self._session.parameters
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
        self._session.parameters = {**self._session.parameters, **checked}
        self._before = None

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
        write_checkpoint(path, self._setup, self._session.parameters, at, self._registry)

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], *, observers: Iterable[Observer] = (), registry: Registry | None = None
    ) -> Trainer:
        """A trainer that goes on where a checkpoint was saved, bit for bit: same weights, state, order and draws.

        Args:
            path: what `save_checkpoint` wrote.
            observers, registry: as for the constructor.

        Raises:
            FormatError: the file is not a checkpoint, or damaged.
            PluginError: a schedule or metric that it names is not installed.
        """
        registry = get_registry() if registry is None else registry
        setup, at = read_checkpoint(path, registry)
        trainer = cls.__new__(cls)
        trainer._begin(setup, registry, observers, at)
        return trainer


def _tell(watchers: Iterable[Any], method: str, *facts: Any) -> None:
    for watcher in watchers:
        if hasattr(watcher, method):
            getattr(watcher, method)(*facts)


def _overrides(watcher: Any, method: str) -> bool:
    own = getattr(type(watcher), method, None) or getattr(watcher, method, None)
    return own is not None and own is not getattr(TrainingCallback, method)
