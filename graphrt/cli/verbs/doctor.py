"""``graphrt doctor``: report on Python, NumPy, BLAS, plug-ins and this machine."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from importlib import metadata
from typing import Any

import numpy as np

from graphrt import __version__
from graphrt.cli.output import print_json
from graphrt.manager import get_manager
from graphrt.runtime.blas import blas_facts

OPTIONAL = ("scikit-learn", "ml_dtypes", "matplotlib", "threadpoolctl", "onnx", "onnxruntime", "torch")
"""Packages that graphrt or its plug-ins use where they are installed."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "exit code 1 when something is wrong\nexample:\n  graphrt doctor --json"
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the report; exit code 1 when there are problems (warnings are allowed)."""
    report = examine()
    if args.json:
        print_json(report)
    else:
        _print(report)
    return 1 if report["problems"] else 0


def examine() -> dict[str, Any]:
    """All facts, with ``warnings`` and ``problems`` in words."""
    blas = blas_facts()
    manager = get_manager()
    statuses = manager.statuses()
    problems = [f"plug-in {s.name} failed: {s.reason}" for s in statuses if s.state == "failed"]
    writable = {}
    for folder in dict.fromkeys([os.getcwd(), tempfile.gettempdir()]):
        reason = _write_problem(folder)
        writable[folder] = reason is None
        if reason:
            problems.append(f"cannot write to {folder}: {reason}")
    return {
        "graphrt": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "numpy": np.__version__,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "blas": {k: v for k, v in blas.items() if k != "warnings"},
        "packages": {name: _version(name) for name in OPTIONAL},
        "plugins": {s.name: s.state for s in statuses},
        "writable": writable,
        "warnings": blas["warnings"],
        "problems": problems,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _write_problem(folder: str) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as f:
            f.write(b"graphrt")
            f.flush()
    except OSError as e:
        return e.strerror or str(e)
    return None


def _print(report: dict[str, Any]) -> None:
    blas = report["blas"]
    variables = ", ".join(f"{k}={v}" for k, v in blas["variables"].items()) or "none set"
    rows = [
        ("graphrt", report["graphrt"]),
        ("Python", f"{report['python']} ({report['executable']})"),
        ("platform", report["platform"]),
        ("NumPy", report["numpy"]),
        ("BLAS", f"{blas['library']} {blas['version']}, kernel {blas['kernel'] or 'unknown'}"),
        ("threads", f"{blas['threads'] or 'unknown'} of BLAS, {report['cpus']} CPUs"),
        ("variables", variables),
        ("packages", ", ".join(f"{k} {v}" for k, v in report["packages"].items() if v) or "none"),
        ("missing", ", ".join(k for k, v in report["packages"].items() if not v) or "none"),
        ("plug-ins", ", ".join(f"{k}: {v}" for k, v in report["plugins"].items()) or "none besides the built-in ones"),
        ("writable", ", ".join(f"{k}: {'yes' if v else 'no'}" for k, v in report["writable"].items())),
    ]
    for label, text in rows:
        print(f"{label:<10} {text}")
    for kind in ("warnings", "problems"):
        for text in report[kind]:
            print(f"{kind.removesuffix('s')}: {text}")
    if not report["problems"]:
        print("no problems found")
