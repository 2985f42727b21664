"""Checkpoints: the graph of a step with its current state, and beside it what a `Trainer` needs to go on.

The file is an ordinary ``.grt``. Its metadata entry `KEY` is a JSON object; the model and the evaluation graph in it
are JSON text forms without initializers, which are those of the step graph under the same names.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphrt.definitions import Metric, Schedule
from graphrt.errors import FormatError, InputError
from graphrt.format import from_json, load, save, to_json
from graphrt.ir import Graph
from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.train.objective import Objective
from graphrt.train.setup import Setup
from graphrt.train.step import StepGraph

KEY = "graphrt.checkpoint"
"""The metadata entry that makes a step graph a checkpoint."""

VERSION = 2


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        step, epoch: how many are done.
        unfinished: batches done of an epoch that has begun, its number of examples, its batch size.
        rate_scale: the factor on the learning rate.
        history: the rows of the epochs.
    """

    step: int = 0
    epoch: int = 0
    unfinished: tuple[int, int, int] = (0, 0, 0)
    rate_scale: float = 1.0
    history: tuple[dict[str, float], ...] = ()


def write_checkpoint(
    path: str | os.PathLike[str], setup: Setup, parameters: Mapping[str, Array], at: Progress, registry: Registry
) -> None:
    """Saves a training.

    Raises:
        InputError: the learning rate or a metric is a function without a name in the registry; the suffix is not .grt.
        SaveError: the file cannot be written; what was there before is intact.
    """
    if not os.fspath(path).lower().endswith(".grt"):
        raise InputError(f"{os.fspath(path)}: a checkpoint is a .grt file")
    step, model, evaluation = setup.step, setup.model, setup.evaluation
    entry = {
        "version": VERSION,
        "step": {
            "loss": step.loss,
            "prediction": step.prediction,
            "target": step.target,
            "learning_rate": step.learning_rate,
            "step": step.step,
            "square": step.square,
            "gradients": dict(step.gradients),
            "state": {w: dict(names) for w, names in step.state.items()},
        },
        "model": _structure(model),
        "evaluation": {**_structure(evaluation.graph), "loss": evaluation.loss, "prediction": evaluation.prediction},
        "metrics": [_metric_entry(m, registry) for m in setup.metrics],
        "learning_rate": _rate_entry(setup.rate, registry),
        "target": setup.target,
        "seed": setup.seed,
        "progress": {
            "step": at.step,
            "epoch": at.epoch,
            "unfinished": list(at.unfinished),
            "rate_scale": at.rate_scale,
            "history": [{k: v if math.isfinite(v) else str(v) for k, v in row.items()} for row in at.history],
        },
    }
    current = {k: parameters.get(k, a) for k, a in step.graph.initializers.items()}
    extra = {k: a for k, a in model.initializers.items() if k not in current}
    metadata = {**step.graph.metadata, KEY: json.dumps(entry, allow_nan=False, sort_keys=True)}
    save(step.graph.replace(initializers={**current, **extra}, metadata=metadata), path)


def read_checkpoint(path: str | os.PathLike[str], registry: Registry) -> tuple[Setup, Progress]:
    """Reads what `write_checkpoint` wrote.

    Raises:
        FormatError: the file is damaged, or no checkpoint.
        PluginError: a schedule or metric that it names is not installed.
    """
    graph, name = load(path), os.fspath(path)
    text = graph.metadata.get(KEY)
    if text is None:
        raise FormatError("this is a graph but no checkpoint: train it with a Trainer instead", path=name)
    try:
        return _read_entry(graph, json.loads(text), registry)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, InputError, FormatError) as e:
        raise FormatError(f"the checkpoint's entry is not valid: {type(e).__name__}: {e}", path=name) from e


def _read_entry(graph: Graph, entry: Any, registry: Registry) -> tuple[Setup, Progress]:
    if entry["version"] != VERSION:
        raise ValueError(f"version {entry['version']!r}; this program reads version {VERSION}")
    metadata = {k: v for k, v in graph.metadata.items() if k != KEY}
    graph = graph.replace(metadata=metadata)
    step = StepGraph(graph, **entry["step"])
    model, e = _rebuilt(entry["model"], graph), entry["evaluation"]
    evaluation = Objective(_rebuilt(e, graph), e["loss"], e["prediction"], step.target)
    metrics = tuple(registry.get("metrics", m) for m in entry["metrics"])
    rate = _read_rate(entry["learning_rate"], registry)
    _check_names(step, evaluation)
    setup = Setup(model, step, evaluation, metrics, rate, entry["target"], _count(entry["seed"]))
    p = entry["progress"]
    rows = tuple({k: float(v) if isinstance(v, str) else v for k, v in row.items()} for row in p["history"])
    done, n, batch_size = map(_count, p["unfinished"])
    at = Progress(_count(p["step"]), _count(p["epoch"]), (done, n, batch_size), float(p["rate_scale"]), rows)
    if not all(isinstance(v, (int, float)) for row in rows for v in row.values()):
        raise ValueError("the history holds something else than numbers")
    return setup, at


def _check_names(step: StepGraph, evaluation: Objective) -> None:
    """Raises ValueError unless every value that the entry names is there."""
    initializers, graph = step.graph.initializers, step.graph
    states = [name for names in step.state.values() for name in names.values()]
    for names, there in (
        ((step.loss, step.prediction, step.square), graph.output_names),
        ((step.learning_rate, step.step, step.target), graph.input_names),
        ((*step.gradients, *step.state, *states), initializers),
        ((evaluation.loss, evaluation.prediction), evaluation.graph.output_names),
    ):
        for name in names:
            if name is not None and name not in there:
                raise ValueError(f"the graph has no {name!r} where the entry says so")


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _structure(graph: Graph) -> dict[str, Any]:
    return {"graph": to_json(graph.replace(initializers={})), "initializers": list(graph.initializers)}


def _rebuilt(entry: Any, step: Graph) -> Graph:
    return from_json(entry["graph"]).replace(initializers={k: step.initializers[k] for k in entry["initializers"]})


def _metric_entry(metric: Metric, registry: Registry) -> str:
    name = metric.name
    if registry.table("metrics").get(name) is not metric:
        raise InputError(f"a checkpoint cannot hold a function: the metric {name!r} is in no plug-in")
    return name


def _rate_entry(rate: Any, registry: Registry) -> Any:
    if isinstance(rate, Schedule) and registry.table("schedules").get(rate.definition.name) is rate.definition:
        return {"schedule": rate.definition.name, "settings": {k: _plain(v) for k, v in rate.settings.items()}}
    if callable(rate):
        raise InputError("a checkpoint cannot hold a function: the learning rate is no schedule of a plug-in")
    return float(rate)


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist() if not isinstance(value, str) else value


def _read_rate(entry: Any, registry: Registry) -> Any:
    if isinstance(entry, dict):
        return registry.get("schedules", entry["schedule"])(**entry["settings"])
    return float(entry)
