"""The built-in optimizers and learning-rate schedules: ``gr.optim.Adam(1e-3, beta1=0.9)``.

Each name here is a definition; calling it gives the configured `Optimizer` or `Schedule`. Update equations and
defaults are PyTorch's; parameters narrower than float32 have their updates computed, and their state kept, in float32.
"""

from __future__ import annotations

from graphrt.definitions import Optimizer, OptimizerDefinition, Schedule, ScheduleDefinition
from graphrt.optim.adam import Adam, AdamW
from graphrt.optim.descent import SGD, GradientDescent
from graphrt.optim.scaled import Adagrad, RMSprop
from graphrt.optim.schedules import (
    constant,
    cosine,
    cosine_restarts,
    exponential,
    inverse_sqrt,
    linear,
    one_cycle,
    piecewise,
    polynomial,
    step_decay,
    warmup_cosine,
    warmup_linear,
)

OPTIMIZERS: tuple[OptimizerDefinition, ...] = (Adagrad, Adam, AdamW, GradientDescent, RMSprop, SGD)
"""Every built-in optimizer."""

SCHEDULES: tuple[ScheduleDefinition, ...] = (
    constant,
    cosine,
    cosine_restarts,
    exponential,
    inverse_sqrt,
    linear,
    one_cycle,
    piecewise,
    polynomial,
    step_decay,
    warmup_cosine,
    warmup_linear,
)
"""Every built-in schedule."""

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "GradientDescent",
    "Optimizer",
    "OptimizerDefinition",
    "RMSprop",
    "Schedule",
    "ScheduleDefinition",
    "constant",
    "cosine",
    "cosine_restarts",
    "exponential",
    "inverse_sqrt",
    "linear",
    "one_cycle",
    "piecewise",
    "polynomial",
    "step_decay",
    "warmup_cosine",
    "warmup_linear",
]
