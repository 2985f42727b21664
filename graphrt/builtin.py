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
def graphrt_register_passes() -> Iterable[Any]:
    """Graph-to-graph passes."""
    from graphrt.passes.mode import set_mode

    return [set_mode]


@hookimpl
def graphrt_register_commands() -> Iterable[Any]:
    """The verbs of the command line; each is imported when it is used."""
    from graphrt.cli.table import VERBS, configure_verb, run_verb
    from graphrt.definitions import Command

    return [Command(verb, text, configure_verb(verb), run_verb(verb)) for verb, text in VERBS.items()]
