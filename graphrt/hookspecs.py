"""Every hook of graphrt. A plug-in is a module named by an entry point of group ``graphrt``.

Each hook is optional and is called once, when the table of its kind is first needed; each returns an
iterable of definitions. Nothing is called while a graph runs.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from graphrt.definitions import (
    Callback,
    Command,
    Converter,
    Engine,
    Initializer,
    Kernel,
    KernelModule,
    Loss,
    Metric,
    OptimizerDefinition,
    Pass,
    ScheduleDefinition,
)
from graphrt.op import Op, OpModule

hookspec = pluggy.HookspecMarker("graphrt")


@hookspec
def graphrt_register_ops() -> Iterable[Op | OpModule]:
    """Operators: value and derivative rules, made with `graphrt.plugin.op`, or the names of a module's ops."""


@hookspec
def graphrt_register_optimizers() -> Iterable[OptimizerDefinition]:
    """Optimizers, made with `graphrt.plugin.optimizer`."""


@hookspec
def graphrt_register_losses() -> Iterable[Loss]:
    """Losses, made with `graphrt.plugin.loss`."""


@hookspec
def graphrt_register_metrics() -> Iterable[Metric]:
    """Metrics, made with `graphrt.plugin.metric`."""


@hookspec
def graphrt_register_schedules() -> Iterable[ScheduleDefinition]:
    """Learning-rate schedules, made with `graphrt.plugin.schedule`."""


@hookspec
def graphrt_register_initializers() -> Iterable[Initializer]:
    """Initial weights, made with `graphrt.plugin.initializer`."""


@hookspec
def graphrt_register_passes() -> Iterable[Pass]:
    """Graph-to-graph passes, made with `graphrt.plugin.graph_pass`."""


@hookspec
def graphrt_register_kernels() -> Iterable[Kernel | KernelModule]:
    """Faster functions for ops, chosen when a plan is made, or the names of the ops that a module has them for."""


@hookspec
def graphrt_register_converters() -> Iterable[Converter]:
    """Readers and writers of other file formats, chosen by suffix."""


@hookspec
def graphrt_register_engines() -> Iterable[Engine]:
    """Ways to train in several processes."""


@hookspec
def graphrt_register_commands() -> Iterable[Command]:
    """Verbs of the command line ``graphrt VERB``."""


@hookspec
def graphrt_register_callbacks() -> Iterable[Callback]:
    """Training callbacks that can be named on the command line."""
