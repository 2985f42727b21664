"""Exports small PyTorch models in every way PyTorch has; on each file, graphrt against PyTorch and ONNX Runtime.

    python tools/onnx_exported_models.py                      # a table: model and export, a column for each check
    python tools/onnx_exported_models.py --only '^(gpt|vit) dynamo'
    python tools/onnx_exported_models.py --times 32           # seconds beside ONNX Runtime's and PyTorch's, hot spots

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
from collections.abc import Callable
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).parent))

import torch  # noqa: E402
from conformance.pool import run_all  # noqa: E402
from exported.checks import COLUMNS  # noqa: E402
from exported.exporting import Variant, export, variants  # noqa: E402
from exported.subject import Skip, Subject  # noqa: E402
from exported.timing import measure, print_times  # noqa: E402
from exported.zoo import ENTRIES, make_module  # noqa: E402

Record = dict[str, str]


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    options = _options(arguments)
    chosen = [(e, v) for e in ENTRIES for v in variants(e) if re.search(options.only, f"{e.name} {v}")]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.times:
            print_times([measure(e, folder, options.times) for e in ENTRIES if re.search(options.only, e.name)])
            return 0
        found: dict[tuple[str, Variant], Record] = {}
        work = run_all(
            lambda key: _run(*key, options.columns, folder),
            [(e.name, v) for e, v in chosen],
            options.jobs,
            options.limit,
        )
        for key, record, reason in work:
            found[key] = record or {"load": reason}
            print(f"\r{len(found)}/{len(chosen)} {' '.join(map(str, key)):<60.60}", end="", file=sys.stderr)
        print(file=sys.stderr)
    results = {f"{e.name:<14}{v!s:<18}": found[e.name, v] for e, v in chosen}
    _print_table(results, options.columns)
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(_word(c) == "FAIL" for cells in results.values() for c in cells.values()))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--only", default="", metavar="PATTERN", help="regular expression found in 'model exporter opset mode'"
    )
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    p.add_argument("--limit", type=float, default=120, help="seconds for one file (default: 120)")
    p.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the exported files there")
    p.add_argument("--times", type=int, metavar="BATCH", help="measure instead, at this batch size")
    p.add_argument("--columns", type=lambda t: t.split(","), default=list(COLUMNS), help="only these, by commas")
    return p.parse_args(arguments)


def _run(name: str, variant: Variant, columns: list[str], folder: Path) -> Record:
    """Exports one file and checks it, in a worker process: column to result, see `_cell`."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    entry = next(e for e in ENTRIES if e.name == name)
    path = folder / f"{name}-{variant}.onnx".replace(" ", "-")
    module = make_module(entry)
    try:
        export(entry, module, variant, path)
    except Exception as e:
        return {"load": f"- PyTorch cannot export it: {_brief(e)}"}
    subject = Subject(entry, module, variant, path)
    cells: Record = {}
    for column in columns:
        cells[column] = _cell(COLUMNS[column], subject)
        if column == "load" and cells[column]:
            break
    return cells


def _cell(check: Callable[[Subject], None], subject: Subject) -> str:
    """Empty for a pass, ``- reason`` where it does not apply, else what is wrong."""
    try:
        check(subject)
    except Skip as e:
        return f"- {e}"
    except Exception as e:
        return _brief(e)
    return ""


def _brief(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())[:500]}"


def _word(cell: str) -> str:
    return "ok" if not cell else "-" if cell.startswith("- ") else "FAIL"


def _print_table(results: dict[str, Record], columns: list[str]) -> None:
    counts: Counter[str] = Counter()
    print(f"{'model':<14}{'export':<18}" + "".join(f"{c:<7}" for c in columns))
    for title, cells in results.items():
        words = [_word(cells[c]) if c in cells else "" for c in columns]
        counts.update(w for w in words if w)
        print(title + "".join(f"{w:<7}" for w in words).rstrip())
    for word, heading in (("FAIL", "failures"), ("-", "not asked")):
        reasons: dict[str, list[str]] = {}
        for title, cells in results.items():
            for column, text in cells.items():
                if _word(text) == word:
                    reasons.setdefault(f"{column}: {text.removeprefix('- ')}", []).append(" ".join(title.split()))
        print(f"\n{heading}:" if reasons else "")
        for reason, where in reasons.items():
            print(f"  {reason}\n      {', '.join(where)}")
    print(f"{len(results)} files: " + ", ".join(f"{n} {w}" for w, n in sorted(counts.items())))


if __name__ == "__main__":
    sys.exit(main())
