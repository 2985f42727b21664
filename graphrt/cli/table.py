"""The built-in verbs. Needs nothing but the standard library, so that ``graphrt --help`` is quick."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

VERBS = {
    "new": "make a model file: a multi-layer, logistic or perceptron classifier",
    "inspect": "show what is in a model file",
    "run": "run a model on arrays",
    "grad": "value and gradient of a formula or a model at a point",
    "trace": "the derivative computation step by step",
    "check": "find everything that is wrong with a model",
    "train": "train a model on data",
    "eval": "loss and metrics of a model on data",
    "convert": "read a model in one format and write it in another",
    "diff": "what two models differ in",
    "bench": "how long a model takes, and which ops take it",
    "ops": "the ops there are, and their derivative rules",
    "plugins": "the installed plug-ins and how they fared",
    "doctor": "report on Python, NumPy, BLAS, plug-ins and this machine",
    "demo": "train a classifier of handwritten digits, from file to prediction",
}
"""Verb to its one-line help, in the order of the listing."""


def configure_verb(verb: str) -> Callable[[argparse.ArgumentParser], None]:
    """The function that adds a built-in verb's arguments to its parser; imports the verb when it is called."""
    return lambda parser: _module(verb).configure(parser)


def run_verb(verb: str) -> Callable[[argparse.Namespace], int]:
    """The function that runs a built-in verb; imports the verb when it is called."""
    return lambda args: int(_module(verb).run(args))


def _module(verb: str) -> Any:
    return importlib.import_module(f"graphrt.cli.verbs.{verb}")
