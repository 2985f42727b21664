"""What ships in the box, registered like any plug-in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphrt.plugin import hookimpl


@hookimpl
def graphrt_register_ops() -> Iterable[Any]:
    """The ONNX ops of the default domain and those of domain ``graphrt``."""
    from graphrt.ops import builtin_ops

    return builtin_ops()


@hookimpl
def graphrt_register_kernels() -> Iterable[Any]:
    """Faster functions for ops that training and inference spend their time in."""
    from graphrt.runtime.kernels import builtin_kernels

    return builtin_kernels()


@hookimpl
def graphrt_register_passes() -> Iterable[Any]:
    """Graph-to-graph passes."""
    from graphrt.passes.dynamic_batch import dynamic_batch
    from graphrt.passes.mode import set_mode
    from graphrt.passes.rematerialize import rematerialize
    from graphrt.passes.simplify import simplify

    return [dynamic_batch, rematerialize, set_mode, simplify]


@hookimpl
def graphrt_register_commands() -> Iterable[Any]:
    """The verbs of the command line; each is imported when it is used."""
    from graphrt.cli.table import VERBS, configure_verb, run_verb
    from graphrt.definitions import Command

    return [Command(verb, text, configure_verb(verb), run_verb(verb)) for verb, text in VERBS.items()]


@hookimpl
def graphrt_register_optimizers() -> Iterable[Any]:
    """SGD, Adam and relatives."""
    from graphrt.optim import OPTIMIZERS

    return OPTIMIZERS


@hookimpl
def graphrt_register_schedules() -> Iterable[Any]:
    """Learning-rate schedules."""
    from graphrt.optim import SCHEDULES

    return SCHEDULES


@hookimpl
def graphrt_register_losses() -> Iterable[Any]:
    """Losses, as pieces of graph."""
    from graphrt.train.losses import LOSSES

    return LOSSES


@hookimpl
def graphrt_register_metrics() -> Iterable[Any]:
    """Figures of merit."""
    from graphrt.train.metrics import METRICS

    return METRICS


@hookimpl
def graphrt_register_initializers() -> Iterable[Any]:
    """Initial weights."""
    from graphrt.train.initializers import INITIALIZERS

    return INITIALIZERS


@hookimpl
def graphrt_register_callbacks() -> Iterable[Any]:
    """Training callbacks."""
    from graphrt.train.callbacks import CALLBACKS

    return CALLBACKS
