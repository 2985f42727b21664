"""PyTorch with ``torch.compile``, where there is a C++ compiler for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import Unable, torch_eager
from .torch_eager import set_threads, version

__all__ = ["prepare", "set_threads", "version"]


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, its forward and backward compiled; the optimizer is PyTorch's fused one."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise Unable("there is no C++ compiler")
    if not task.startswith(("train/", "infer/", "model-")):
        raise Unable("not a model")
    return torch_eager.prepare(task, folder, torch.compile)
