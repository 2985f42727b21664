"""A selection of ONNX's own test suite; `tools/onnx_conformance.py` runs all of it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[3] / "tools"


@pytest.fixture(scope="module")
def cases():
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("conformance.cases")
    finally:
        sys.path.remove(str(TOOLS))


def test_every_twentieth_case(cases):
    from graphrt_onnx import from_onnx

    from graphrt.runtime.session import Session

    selected = [c for c in cases.all_cases() if c.kind != "light"][::20]
    assert len(selected) > 100
    failed = []
    for case in selected:
        try:
            session = Session(from_onnx(case.path or case.model()))
            for inputs, expected in case.data():
                cases.compare(list(session.run(case.feeds(inputs)).values()), expected, case)
        except Exception as e:
            failed.append(f"{case.name}: {type(e).__name__}: {e}"[:300])
    assert not failed, "\n".join(failed)
