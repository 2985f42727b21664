"""Where ONNX Runtime or ONNX's reference is known to deviate from the text of the specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conformance.old_models import Subject, Trial


@dataclass(frozen=True)
class Known:
    """One deviation: of which peer, at which schema versions of an op, under what condition, and why."""

    peer: str
    op: str
    versions: range
    when: Callable[[Trial, str], bool]
    reason: str


KNOWN: tuple[Known, ...] = ()


def reason_for(subject: Subject, trial: Trial, peer: str, difference: str) -> str:
    """Why a difference is the peer's; empty when nothing is known."""
    for k in KNOWN:
        if (k.peer, k.op) == (peer, subject.schema.name) and subject.schema.since_version in k.versions:
            if k.when(trial, difference):
                return k.reason
    return ""
