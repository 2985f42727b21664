"""Runs every case of ``onnx.backend.test`` through `graphrt.load` and `graphrt.Session`.

    python tools/onnx_conformance.py --jobs 2                     # all of them: prints passed/total
    python tools/onnx_conformance.py --only '^test_conv' --failures
    python tools/onnx_conformance.py --gradients                  # also VJP and JVP against differences
    python tools/onnx_conformance.py --peers                      # also ReferenceEvaluator and ONNX Runtime

Results go to a file of JSON lines as they come; ``--resume`` goes on from there. Exit code 0 when all pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).parent))

from conformance.cases import Case, all_cases, compare, subjects  # noqa: E402
from conformance.doubles import with_random_weights  # noqa: E402
from conformance.extras import extra_case  # noqa: E402
from conformance.gradients import check_gradients, tagged_pairs  # noqa: E402
from conformance.peers import PEERS  # noqa: E402
from conformance.pool import run_all  # noqa: E402

import graphrt as gr  # noqa: E402

Record = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    options = _options(arguments)
    cases = [c for c in all_cases() if re.search(options.only, c.name) and options.kind in (None, c.kind)]
    subject = subjects(all_cases() if options.only else cases)
    done = _recorded(options.results) if options.resume else {}
    by_name = {f"{c.kind}/{c.name}": c for c in cases}
    pending = [key for key in by_name if key not in done]
    started = time.monotonic()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    records = {key: done[key] for key in by_name if key in done}
    with options.results.open("a" if options.resume else "w") as log:
        for key, record, reason in run_all(lambda k: _run(by_name[k], options), pending, options.jobs, options.limit):
            record = record or {"status": "fail", "error": reason}
            record |= {"case": key, "op": subject.get(by_name[key].name, "")}
            records[key] = record
            log.write(json.dumps(record) + "\n")
            log.flush()
            if options.progress and sys.stderr.isatty():
                print(f"\r{len(records)}/{len(by_name)} {key:<78.78}", end="", file=sys.stderr)
    _print_report(list(records.values()), options)
    print(f"{time.monotonic() - started:.0f} s, results in {options.results}")
    return int(any(r["status"] != "pass" for r in records.values()))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="", metavar="PATTERN", help="regular expression that a case's name contains")
    p.add_argument("--kind", help="node, simple, pytorch-operator, pytorch-converted or light")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    p.add_argument("--limit", type=float, default=60, help="seconds for one case (default: 60)")
    p.add_argument("--gradients", action="store_true", help="check VJP and JVP too")
    p.add_argument("--peers", action="store_true", help="run ReferenceEvaluator and ONNX Runtime too")
    p.add_argument("--failures", action="store_true", help="list the cases that fail, with their errors")
    p.add_argument("--reasons", action="store_true", help="list the cases that cannot be differentiated, with reasons")
    p.add_argument("--table", action="store_true", help="a line for every op, not only for those that fail")
    p.add_argument("--results", type=Path, default=Path("build/onnx_conformance.jsonl"), help="file of JSON lines")
    p.add_argument("--resume", action="store_true", help="keep the results in the file, run the rest")
    p.add_argument("--no-progress", dest="progress", action="store_false", help="no counter on stderr")
    return p.parse_args(arguments)


def _recorded(path: Path) -> dict[str, Record]:
    if not path.exists():
        return {}
    lines = (line for line in path.read_text().splitlines() if line.endswith("}"))
    return {r["case"]: r for r in map(json.loads, lines)}


# ---- one case ------------------------------------------------------------------------------------------


def _run(case: Case, options: argparse.Namespace) -> Record:
    """Runs one case, in a worker process."""
    warnings.simplefilter("ignore")
    started = time.monotonic()
    record: Record = _attempt(lambda: _run_ours(case))
    if options.gradients:
        record["gradients"] = _gradients(case)
    if options.peers:
        record["peers"] = {name: _attempt(lambda f=f: f(case))["status"] for name, f in PEERS.items()}
    return record | {"seconds": round(time.monotonic() - started, 3)}


def _attempt(run: Callable[[], None]) -> Record:
    try:
        run()
    except Exception as e:
        kind = "values" if isinstance(e, AssertionError) else type(e).__name__
        return {"status": "fail", "error": f"{kind}: {' '.join(str(e).split())[:600]}"}
    return {"status": "pass"}


def _load(case: Case) -> gr.Graph:
    if case.path is not None:
        return gr.load(case.path)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{case.name[:100]}.onnx")
        path.write_bytes(case.model().SerializeToString())
        return gr.load(path)


def _run_ours(case: Case) -> None:
    session = gr.Session(_load(case))
    for inputs, expected in case.data():
        got = session.run(case.feeds(inputs))
        compare(list(got.values()), expected, case)


def _gradients(case: Case) -> Record:
    try:
        inputs, _ = case.data()[0]
        graph = _load(case)
        return check_gradients(with_random_weights(graph) if case.kind == "light" else graph, case.feeds(inputs))
    except Exception as e:
        return {"status": "fail", "reason": f"{type(e).__name__}: {' '.join(str(e).split())[:600]}"}


# ---- the report ----------------------------------------------------------------------------------------


def _print_report(records: list[Record], options: argparse.Namespace) -> None:
    print()
    _print_table(records, options)
    if options.failures:
        for r in records:
            if r["status"] != "pass":
                print(f"{r['case']} [{r['op']}]\n    {r['error']}")
    if options.gradients:
        _print_gradients(records, options)
    for peer in PEERS if options.peers else ():
        count = sum(r.get("peers", {}).get(peer) == "pass" for r in records)
        print(f"{peer}: {count}/{len(records)} passed")
    print(f"{sum(r['status'] == 'pass' for r in records)}/{len(records)} passed")


def _print_table(records: list[Record], options: argparse.Namespace) -> None:
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for r in records:
        rows[r["op"]].update(["total", r["status"]])
        rows[r["op"]].update(["grad " + r["gradients"]["status"]] if "gradients" in r else [])
    print(f"{'op':<36}{'passed':>12}" + (f"{'differentiated':>18}" if options.gradients else ""))
    for op, n in sorted(rows.items()):
        if options.table or n["fail"] or n["grad fail"]:
            floats = n["grad pass"] + n["grad fail"] + n["grad none"]
            more = f"{n['grad pass']:>12}/{floats:<5}" if options.gradients else ""
            print(f"{op:<36}{n['pass']:>7}/{n['total']:<4}{more}")


def _passes_extra(pair: str) -> bool:
    """Whether a pair that the suite leaves out passes on a case of our own."""
    case = extra_case(pair)
    if case is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "extra.onnx")
        path.write_bytes(case[0].SerializeToString())
        return check_gradients(gr.load(path), case[1])["status"] == "pass"


def _print_gradients(records: list[Record], options: argparse.Namespace) -> None:
    found = [(r, r["gradients"]) for r in records if r.get("gradients", {}).get("status", "no floats") != "no floats"]
    reasons = Counter(g["reason"] for _, g in found if g["status"] == "none")
    for reason, count in reasons.most_common():
        print(f"cannot be differentiated: {count:>4}  {reason}")
    for r, g in found:
        if g["status"] == "fail" or (options.reasons and g["status"] == "none"):
            print(f"{r['case']} [{r['op']}] gradient: {g['reason']}")
    checked = {p for _, g in found for p in g.get("pairs", ())}
    tagged = tagged_pairs()
    if not options.only:
        checked |= {p for p in tagged - checked if _passes_extra(p)}
    missing = sorted(tagged - checked)
    print(f"{len(tagged & checked)}/{len(tagged)} (op, input) pairs that ONNX tags differentiable pass")
    if missing and not options.only:
        print(f"    missing: {', '.join(missing)}")
    print(f"{sum(g['status'] == 'pass' for _, g in found)}/{len(found)} differentiated")


if __name__ == "__main__":
    sys.exit(main())
