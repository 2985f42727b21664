"""Exports small PyTorch models in every way PyTorch has, and holds graphrt against PyTorch and ONNX Runtime on each file.

    python tools/onnx_exported_models.py                      # a table: model and export, a column for each check
    python tools/onnx_exported_models.py --only '^(gpt|vit) dynamo'
    python tools/onnx_exported_models.py --times              # seconds beside ONNX Runtime's and PyTorch's, hot spots

Needs torch, onnxscript and onnxruntime. Columns: load; check (`graphrt check`); out (outputs against ONNX Runtime and
PyTorch); params (what is trained is what PyTorch calls parameters); grad and train (gradients in inference and in
training mode, with running statistics); jvp (forward against reverse mode); fit (20 steps of Adam, and of SGD against
PyTorch's); save (trained, written as ONNX, run by ONNX Runtime). Exit code 1 when anything fails.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).parent))

import torch  # noqa: E402
from conformance.pool import run_all  # noqa: E402
from exported.checks import COLUMNS, Skip, Subject  # noqa: E402
from exported.exporting import Variant, export, variants  # noqa: E402
from exported.timing import measure, print_times  # noqa: E402
from exported.zoo import ENTRIES, Entry, make_module  # noqa: E402

Record = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    options = _options(arguments)
    chosen = [(e, v) for e in ENTRIES for v in variants(e) if re.search(options.only, f"{e.name} {v}")]
    by_entry = {e.name: [v for f, v in chosen if f is e] for e, _ in chosen}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.times:
            print_times([measure(e, by_entry[e.name], folder) for e in ENTRIES if e.name in by_entry])
            return 0
        results: dict[str, list[Record]] = {}
        work = run_all(lambda name: _run(name, by_entry[name], folder), list(by_entry), options.jobs, options.limit)
        for name, found, reason in work:
            results[name] = found or [{"export": "all", "cells": {"load": reason}}]
            print(f"{name:<14}", *(_mark(r) for r in results[name]), file=sys.stderr)
    _print_table({e: results[e] for e in by_entry}, options.columns)
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(c for rs in results.values() for r in rs for c in r["cells"].values() if c and c[0] != "-"))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="", metavar="PATTERN", help="regular expression found in 'model exporter opset mode'")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    p.add_argument("--limit", type=float, default=600, help="seconds for one model (default: 600)")
    p.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the exported files there")
    p.add_argument("--times", action="store_true", help="measure instead")
    p.add_argument("--columns", type=lambda t: t.split(","), default=list(COLUMNS), help="only these, by commas")
    global COLUMN_NAMES
    options = p.parse_args(arguments)
    COLUMN_NAMES = options.columns
    return options


COLUMN_NAMES: list[str] = []


def _run(name: str, chosen: list[Variant], folder: Path) -> list[Record]:
    """All exports of one model, in a worker process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    entry = next(e for e in ENTRIES if e.name == name)
    return [_run_variant(entry, v, folder) for v in chosen]


def _run_variant(entry: Entry, variant: Variant, folder: Path) -> Record:
    path = folder / f"{entry.name}-{variant}.onnx".replace(" ", "-")
    module = make_module(entry)
    try:
        export(entry, module, variant, path)
    except Exception as e:
        return {"export": str(variant), "cells": {"load": f"- PyTorch cannot export it: {_brief(e)}"}}
    subject = Subject(entry, module, variant, path)
    cells: dict[str, str] = {}
    for name in COLUMN_NAMES:
        cells[name] = _cell(lambda name=name: COLUMNS[name](subject))
        if name == "load" and cells[name]:
            break
    return {"export": str(variant), "cells": cells}


def _cell(run: Any) -> str:
    """Empty for a pass, ``- reason`` where it does not apply, else what is wrong."""
    try:
        run()
    except Skip as e:
        return f"- {e}"
    except Exception as e:
        return _brief(e)
    return ""


def _brief(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())[:500]}"


def _mark(record: Record) -> str:
    cells = record["cells"].values()
    return "F" if any(c and c[0] != "-" for c in cells) else "-" if len(record["cells"]) == 1 else "."


def _print_table(results: dict[str, list[Record]], columns: list[str]) -> None:
    counts: Counter[str] = Counter()
    print(f"{'model':<14}{'export':<18}" + "".join(f"{c:<7}" for c in columns))
    for model, records in results.items():
        for r in records:
            words = ["" if c not in r["cells"] else _word(r["cells"][c]) for c in columns]
            counts.update(w for w in words if w)
            print(f"{model:<14}{r['export']:<18}" + "".join(f"{w:<7}" for w in words))
    print()
    for model, records in results.items():
        for r in records:
            for column, text in r["cells"].items():
                if text and (text[0] != "-" or column == "load"):
                    print(f"{model} {r['export']} {column}: {text}")
    print(f"\n{sum(len(r) for r in results.values())} exports:", ", ".join(f"{n} {w}" for w, n in sorted(counts.items())))


def _word(cell: str) -> str:
    return "ok" if not cell else "-" if cell[0] == "-" else "FAIL"


if __name__ == "__main__":
    sys.exit(main())
