"""Compares every version of every ONNX operator with ONNX Runtime, on models of one node.

    python tools/onnx_old_opsets.py                          # each version at the first and last opset it holds
    python tools/onnx_old_opsets.py --only '^Squeeze-' --rounds 3 --seed 1
    python tools/onnx_old_opsets.py --gradients              # also derivatives against differences

The models come from the examples of the registered ops: in all element types that the schema allows, and with random
changes of attributes, sizes and absent inputs. Where ONNX Runtime has no kernel, ONNX's reference is the peer. The
columns count models: compared with ONNX Runtime, those that agree, differ, differ for a known reason; without a kernel
there, and of these how many agree and differ with the reference; and those that both refuse, or that are not valid.
The reference ignores attributes and types here and there: it is counted, and no judge. Exit code 0 when nothing
differs from ONNX Runtime but for a known reason. Needs the packages ``onnx`` and ``onnxruntime``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).parent))

from conformance.gradients import check_gradients  # noqa: E402
from conformance.known_differences import reason_for  # noqa: E402
from conformance.old_models import Subject, Trial, all_subjects, model_of  # noqa: E402
from conformance.old_runs import RANDOM, Outcome, difference, is_valid, onnx_runtime, ours, reference  # noqa: E402
from conformance.old_trials import trials  # noqa: E402
from conformance.pool import run_all  # noqa: E402
from graphrt_onnx import from_onnx  # noqa: E402

Result = dict[str, Any]
COLUMNS = ("agree", "differ", "known", "reference agrees", "reference differs", "alone", "refused", "invalid")


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    options = _options(arguments)
    subjects = {s.key: s for s in all_subjects() if re.search(options.only, s.key)}
    started = time.monotonic()
    results: list[Result] = []
    crashed = []
    run = run_all(lambda key: _run(subjects[key], options), list(subjects), options.jobs, options.limit)
    for done, (key, found, _) in enumerate(run, 1):
        results += found or ()
        crashed += [key] if found is None else []
        if sys.stderr.isatty():
            print(f"\r{done}/{len(subjects)} {key:<60.60}", end="", file=sys.stderr)
    results += _one_by_one({key: subjects[key] for key in crashed}, options)
    if options.results:
        options.results.write_text("".join(json.dumps(r) + "\n" for r in results))
    _print_report(results, options)
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(r["status"] in ("differ", "crash") or r["gradient"] == "fail" for r in results))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="", metavar="PATTERN", help="regular expression found in OP-VERSION@OPSET")
    p.add_argument("--seed", type=int, default=0, help="of examples and changes (default: 0)")
    p.add_argument("--rounds", type=int, default=1, help="random changes of each example (default: 1)")
    p.add_argument("--gradients", action="store_true", help="check VJP and JVP too")
    p.add_argument(
        "--others", action="store_true", help="also list those that differ from the reference, or lack a peer"
    )
    p.add_argument("--most", type=int, default=3, help="models to list of each version and kind (default: 3)")
    p.add_argument("--table", action="store_true", help="a line for every version, not only where something differs")
    p.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    p.add_argument("--limit", type=float, default=300, help="seconds for one version at one opset (default: 300)")
    p.add_argument("--results", type=Path, metavar="FILE", help="write each model's result here, as JSON lines")
    return p.parse_args(arguments)


# ---- one version at one opset ----------------------------------------------------------------------------


def _run(subject: Subject, options: argparse.Namespace) -> list[Result]:
    warnings.simplefilter("ignore")
    found = []
    for trial in trials(subject, options.seed, options.rounds):
        try:
            found.append(_try(subject, trial, options.gradients))
        except Exception as e:
            found.append(_result(subject, "crash", f"{type(e).__name__}: {e}", trial))
    return found


def _one_by_one(subjects: dict[str, Subject], options: argparse.Namespace) -> list[Result]:
    """The results of versions with a model that ends the process, each model in a process that may end."""
    models = {
        (key, i): (s, t) for key, s in subjects.items() for i, t in enumerate(trials(s, options.seed, options.rounds))
    }

    def run(with_peer: bool, items: list[Any]) -> dict[Any, Result | None]:
        return {
            item: found
            for item, found, _ in run_all(
                lambda item: _try(*models[item], options.gradients, with_peer), items, options.jobs, options.limit
            )
        }

    found = run(True, list(models))
    alone = run(False, [item for item, result in found.items() if result is None])
    return [
        result or alone[item] or _result(models[item][0], "crash", "", models[item][1])
        for item, result in found.items()
    ]


def _result(subject: Subject, status: str, detail: str = "", trial: Trial | None = None, gradient: str = "") -> Result:
    what = trial.describe(subject) if trial else subject.key
    return {"op": subject.name, "status": status, "detail": detail, "what": what, "gradient": gradient}


def _try(subject: Subject, trial: Trial, with_gradients: bool, with_peer: bool = True) -> Result:
    model, feeds = model_of(subject, trial)
    problem = is_valid(model)
    if problem:
        return _result(subject, "invalid", problem, trial)
    peer = onnx_runtime(model, feeds) if with_peer else Outcome(error="ONNX Runtime ends the process")
    own = ours(model, feeds)
    status, detail = _judge(subject, trial, own, peer, model, feeds)
    result = _result(subject, status, detail, trial)
    if with_gradients and own.outputs is not None and trial.smooth:
        try:
            found = check_gradients(from_onnx(model), feeds)
        except Exception as e:
            found = {"status": "fail", "reason": f"{type(e).__name__}: {' '.join(str(e).split())[:400]}"}
        result |= {"gradient": found["status"], "reason": found.get("reason", "")}
    return result


def _judge(
    subject: Subject, trial: Trial, own: Outcome, peer: Outcome, model: Any, feeds: dict[str, Any]
) -> tuple[str, str]:
    if peer.outputs is not None:
        found = _difference(subject, trial, own, peer)
        known = reason_for(subject, trial, found) if found else ""
        return ("known" if known else "differ", known or found) if found else ("agree", "")
    second = reference(model, feeds)
    if own.outputs is None and (second.outputs is None or not peer.missing):
        return "refused", own.error
    if second.outputs is None:
        return "alone", peer.error
    found = _difference(subject, trial, own, second)
    if not found:
        return "reference agrees", peer.error
    return "reference differs", f"{found} ({peer.error})"


def _difference(subject: Subject, trial: Trial, own: Outcome, peer: Outcome) -> str:
    if own.outputs is None:
        return f"graphrt refuses: {own.error}"
    assert peer.outputs is not None
    is_random = subject.schema.name in RANDOM or _drops_at_random(subject, trial)
    pairs = zip(own.outputs, peer.outputs, strict=True)
    found = ((i, difference(a, b, is_random)) for i, (a, b) in enumerate(pairs))
    return next((f"output {i}: {d}" for i, d in found if d), "")


def _drops_at_random(subject: Subject, trial: Trial) -> bool:
    """Whether this is a Dropout that trains."""
    if subject.schema.name != "Dropout":
        return False
    trains = len(trial.inputs) > 2 and trial.inputs[2] is not None and bool(trial.inputs[2])
    return trains or (subject.schema.since_version < 7 and not trial.attributes.get("is_test", 0))


# ---- the report ------------------------------------------------------------------------------------------


def _print_report(results: list[Result], options: argparse.Namespace) -> None:
    rows: dict[str, Counter[str]] = {}
    for r in results:
        rows.setdefault(r["op"], Counter()).update([r["status"], f"gradient {r['gradient']}"])
    print(f"{'op and version':<44}{'compared':>9}" + "".join(f"{c:>{len(c) + 2}}" for c in COLUMNS))
    for name, n in sorted(rows.items()):
        if options.table or n["differ"] or n["crash"] or n["gradient fail"]:
            _print_row(name, n)
    total = sum(rows.values(), Counter())
    _print_row("all", total)
    wanted = ["crash", "differ", "gradient fail"]
    wanted += ["reference differs", "refused", "alone"] if options.others else []
    shown: Counter[tuple[str, str]] = Counter()
    for r in results:
        for status, detail in ((r["status"], r["detail"]), ("gradient " + r["gradient"], r.get("reason", ""))):
            shown[r["op"], status] += status in wanted
            if status in wanted and shown[r["op"], status] <= options.most:
                print(f"{status}: {r['what']}\n    {detail}")
    for reason, count in Counter((r["op"], r["detail"]) for r in results if r["status"] == "known").items():
        print(f"known: {reason[0]}: {count}: {reason[1]}")
    if options.gradients:
        good, bad = total["gradient pass"], total["gradient fail"]
        print(f"{good}/{good + bad} differentiated ({total['gradient none']} without a derivative)")
    print(f"versions: {len(rows)}; models: {len(results)}; crashes: {total['crash']}")
    print(f"{total['agree']}/{total['agree'] + total['differ'] + total['known']} agree with ONNX Runtime")


def _print_row(name: str, n: Counter[str]) -> None:
    compared = n["agree"] + n["differ"] + n["known"]
    print(f"{name:<44}{compared:>9}" + "".join(f"{n[c]:>{len(c) + 2}}" for c in COLUMNS))


if __name__ == "__main__":
    sys.exit(main())
