"""Objects that watch or steer training. A callback has any of the methods of `TrainingCallback`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from graphrt.definitions import Callback
from graphrt.errors import InputError
from graphrt.train.history import History

Figures = Mapping[str, float]


class TrainingCallback:
    """What training tells a callback; every method does nothing here.

    ``trainer`` is the `Trainer`: a callback may read all of it, save it, and call ``trainer.stop(reason)``.
    """

    def on_fit_begin(self, trainer: Any) -> None:
        """Training begins."""

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        """An epoch begins; ``epoch`` is 1 for the first."""

    def on_step_end(self, trainer: Any, step: int, metrics: Figures) -> None:
        """A step is done; ``step`` counts from 1 over all epochs, ``metrics`` are of its batch."""

    def on_epoch_end(self, trainer: Any, epoch: int, metrics: Figures) -> None:
        """An epoch is done; ``metrics`` is its row of the history, ``val_*`` included."""

    def on_fit_end(self, trainer: Any, history: History) -> None:
        """Training ended, by itself or because it was stopped; not after an error."""


class _Best:
    """Follows one figure and tells when it is the best so far.

    Args:
        monitor: name of the figure; None: ``val_loss``, or ``loss`` without a validation set.
        min_delta: by how much a figure has to be better.
        mode: ``"min"``, ``"max"``, or ``"auto"``: by the metric's own definition.
    """

    def __init__(self, monitor: str | None, min_delta: float, mode: str):
        if mode not in ("auto", "min", "max"):
            raise InputError(f"mode is 'auto', 'min' or 'max', not {mode!r}")
        self.monitor, self.min_delta, self.mode = monitor, abs(min_delta), mode
        self.best = math.nan

    def improved(self, trainer: Any, metrics: Figures) -> bool:
        """Whether this epoch's figure is the best so far; NaN never is."""
        name = self.monitor or ("val_loss" if "val_loss" in metrics else "loss")
        if name not in metrics:
            raise InputError(f"there is no figure {name!r} to monitor; there are: {', '.join(metrics)}")
        value = metrics[name]
        sign = 1 if self._higher_is_better(trainer, name) else -1
        if math.isnan(value) or sign * (value - self.best) <= self.min_delta:
            return False
        self.best = value
        return True

    def _higher_is_better(self, trainer: Any, name: str) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        base = name.removeprefix("val_")
        return any(m.name == base and m.higher_is_better for m in trainer.metrics)


class EarlyStopping(TrainingCallback):
    """Stops training when a figure has not improved for a while.

    Args:
        patience: how many epochs without improvement are borne; training stops after the last of them.
        monitor: name of the figure; None: ``val_loss``, or ``loss`` without a validation set.
        min_delta: what counts as an improvement.
        mode: ``"min"``, ``"max"``, or ``"auto"``: as the metric says; a loss goes down.
        restore_best: whether the weights of the best epoch are put back when training ends.
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str | None = None,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ):
        self.patience, self.restore_best = patience, restore_best
        self._settings = (monitor, min_delta, mode)
        self._follow = _Best(*self._settings)
        self._weights: dict[str, Any] = {}
        self.best_epoch, self._waited = 0, 0

    def on_fit_begin(self, trainer: Any) -> None:
        """Forgets earlier trainings."""
        self._follow = _Best(*self._settings)
        self._weights, self.best_epoch, self._waited = {}, 0, 0

    def on_epoch_end(self, trainer: Any, epoch: int, metrics: Figures) -> None:
        """Keeps the best weights, and counts the epochs since."""
        if self._follow.improved(trainer, metrics):
            self.best_epoch, self._waited = epoch, 0
            self._weights = trainer.weights() if self.restore_best else {}
            return
        self._waited += 1
        if self._waited >= self.patience:
            trainer.stop(f"no improvement since epoch {self.best_epoch} ({self._follow.best:.6g})")

    def on_fit_end(self, trainer: Any, history: History) -> None:
        """Puts the best weights back."""
        if self._weights:
            trainer.set_weights(self._weights)
            self._weights = {}


class ModelCheckpoint(TrainingCallback):
    """Saves a checkpoint at the end of epochs, from which `Trainer.resume` goes on.

    Args:
        path: of the file; ``{epoch}`` in it is replaced.
        only_best: whether to save only when the figure is the best so far.
        monitor, mode: as for `EarlyStopping`.
        every: how many epochs lie between two checkpoints.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        only_best: bool = False,
        monitor: str | None = None,
        mode: str = "auto",
        every: int = 1,
    ):
        self.path, self.only_best, self.every = os.fspath(path), only_best, every
        self._follow = _Best(monitor, 0.0, mode)

    def on_epoch_end(self, trainer: Any, epoch: int, metrics: Figures) -> None:
        """Saves, if it is time to."""
        due = self._follow.improved(trainer, metrics) if self.only_best else epoch % self.every == 0
        if due:
            trainer.save_checkpoint(self.path.replace("{epoch}", str(epoch)))


class ReduceOnPlateau(TrainingCallback):
    """Multiplies the learning rate by a factor whenever a figure has not improved for a while.

    Args:
        factor: between 0 and 1.
        patience: how many epochs without improvement are borne.
        monitor, min_delta, mode: as for `EarlyStopping`.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 5,
        monitor: str | None = None,
        min_delta: float = 0.0,
        mode: str = "auto",
    ):
        if not 0 < factor < 1:
            raise InputError(f"factor lies between 0 and 1, not {factor!r}")
        self.factor, self.patience = factor, patience
        self._follow = _Best(monitor, min_delta, mode)
        self._waited = 0

    def on_epoch_end(self, trainer: Any, epoch: int, metrics: Figures) -> None:
        """Counts the epochs without improvement, and lowers the rate."""
        self._waited = 0 if self._follow.improved(trainer, metrics) else self._waited + 1
        if self._waited > self.patience:
            trainer.rate_scale *= self.factor
            self._waited = 0


class SaveHistory(TrainingCallback):
    """Writes the history to a ``.csv`` or ``.json`` file after each epoch."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def on_epoch_end(self, trainer: Any, epoch: int, metrics: Figures) -> None:
        """Writes the file anew."""
        trainer.history.save(self.path)


class Watchers:
    """The callbacks of one training.

    Attributes:
        each_step: whether any of them wants to be told of each step.
    """

    def __init__(self, callbacks: Iterable[Any]):
        self._callbacks = tuple(callbacks)
        self.each_step = any(_overrides(c, "on_step_end") for c in self._callbacks)

    def tell(self, method: str, *facts: Any) -> None:
        """Calls a method of every callback that has it."""
        for callback in self._callbacks:
            if hasattr(callback, method):
                getattr(callback, method)(*facts)


def _overrides(callback: Any, method: str) -> bool:
    own = getattr(type(callback), method, None) or getattr(callback, method, None)
    return own is not None and own is not getattr(TrainingCallback, method)


CALLBACKS: tuple[Callback, ...] = (
    Callback("early_stopping", EarlyStopping),
    Callback("model_checkpoint", ModelCheckpoint),
    Callback("reduce_on_plateau", ReduceOnPlateau),
    Callback("save_history", SaveHistory),
)
"""The callbacks that can be named."""
