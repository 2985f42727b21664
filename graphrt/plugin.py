"""The whole extension surface in one import.

A plug-in is a module named by an entry point of group ``graphrt``; it defines ops and the like, and
returns them from hooks:

    from graphrt.plugin import hookimpl, op

    @op("Cube", domain="example", elementwise=True)
    def cube(x):
        "x cubed."
        return x * x * x

    @cube.derivative("x")
    def _(x):
        return 3 * x * x

    @hookimpl
    def graphrt_register_ops():
        return [cube]
"""

from __future__ import annotations

import pluggy

from graphrt.definitions import (
    Callback,
    Command,
    Converter,
    Engine,
    Initializer,
    Into,
    Kernel,
    KernelModule,
    KernelSite,
    Linker,
    Loss,
    Metric,
    Optimizer,
    OptimizerDefinition,
    Pass,
    Schedule,
    ScheduleDefinition,
    View,
    graph_pass,
    initializer,
    kernel,
    loss,
    metric,
    optimizer,
    schedule,
)
from graphrt.dual import elementary
from graphrt.errors import ConversionError, GraphrtError, TypeInferenceError
from graphrt.ir import Graph, Node, Value
from graphrt.op import Array, Example, Op, OpModule, like, op, unbroadcast
from graphrt.types import Dim, MapType, OptionalType, SequenceType, TensorType, ValueType, broadcast_shapes

hookimpl = pluggy.HookimplMarker("graphrt")
"""Marks a function as the implementation of the hook of its name."""

__all__ = [
    "Array",
    "Callback",
    "Command",
    "ConversionError",
    "Converter",
    "Dim",
    "Engine",
    "Example",
    "Graph",
    "GraphrtError",
    "Initializer",
    "Into",
    "Kernel",
    "KernelModule",
    "KernelSite",
    "Linker",
    "Loss",
    "MapType",
    "Metric",
    "Node",
    "Op",
    "OpModule",
    "Optimizer",
    "OptimizerDefinition",
    "OptionalType",
    "Pass",
    "Schedule",
    "ScheduleDefinition",
    "SequenceType",
    "TensorType",
    "TypeInferenceError",
    "Value",
    "ValueType",
    "View",
    "broadcast_shapes",
    "elementary",
    "graph_pass",
    "hookimpl",
    "initializer",
    "kernel",
    "like",
    "loss",
    "metric",
    "op",
    "optimizer",
    "schedule",
    "unbroadcast",
]
