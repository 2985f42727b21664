"""Training: the graph of a step, the trainer, data, metrics, callbacks, checkpoints.

The public names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphrt.train.callbacks import (
        EarlyStopping,
        ModelCheckpoint,
        ReduceOnPlateau,
        SaveHistory,
        TrainingCallback,
    )
    from graphrt.train.data import Dataset, load_data
    from graphrt.train.history import History
    from graphrt.train.objective import Penalties, make_objective
    from graphrt.train.step import StepGraph, split_step, training_graph
    from graphrt.train.trainer import Trainer

__all__ = [
    "Dataset",
    "EarlyStopping",
    "History",
    "ModelCheckpoint",
    "Penalties",
    "ReduceOnPlateau",
    "SaveHistory",
    "StepGraph",
    "Trainer",
    "TrainingCallback",
    "load_data",
    "make_objective",
    "split_step",
    "training_graph",
]

_HOMES = {
    "Dataset": "data",
    "EarlyStopping": "callbacks",
    "History": "history",
    "ModelCheckpoint": "callbacks",
    "Penalties": "objective",
    "ReduceOnPlateau": "callbacks",
    "SaveHistory": "callbacks",
    "StepGraph": "step",
    "Trainer": "trainer",
    "TrainingCallback": "callbacks",
    "load_data": "data",
    "make_objective": "objective",
    "split_step": "step",
    "training_graph": "step",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphrt.train' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"graphrt.train.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
