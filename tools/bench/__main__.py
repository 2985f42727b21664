"""Times graphrt beside other frameworks.

    python -m tools.bench [--threads 2] [--rows 'train/*' chain] [--contenders graphrt torch] [--quick]
                          [--json out.json] [--compare old.json]

Every contender runs in a process of its own; they agree on the results first, then they take turns. Exits with 1 if a
contender failed or disagreed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from . import report
from .contenders import MODULES, Unable
from .process import UNSET, Process
from .rounds import Result, Settings, run_task
from .startup import measure_startup
from .tasks import Task, all_tasks, write_files

STARTUP = Task("startup", "fresh processes", "start-up", 0)


def main() -> int:
    """Runs what the arguments ask for."""
    args = _parser().parse_args()
    chosen = [t for t in [*all_tasks(), STARTUP] if any(fnmatchcase(t.name, p) for p in args.rows)]
    if not chosen:
        print("bench: no task has such a name; there are: " + ", ".join(t.name for t in all_tasks()), file=sys.stderr)
        return 2
    rounds, seconds = (3, 0.05) if args.quick else (args.rounds, args.seconds)
    with tempfile.TemporaryDirectory(prefix="graphrt-bench-") as folder:
        settings = Settings(args.threads, rounds, seconds, tuple(args.contenders), Path(args.keep or folder))
        settings.folder.mkdir(parents=True, exist_ok=True)
        versions = _versions(settings)
        settings = Settings(args.threads, rounds, seconds, tuple(versions), settings.folder)
        write_files(chosen, settings.folder)
        found: dict[str, tuple[Task, dict[str, Result]]] = {}
        for task in chosen:
            print(f"bench: {task.title}", file=sys.stderr, flush=True)
            startup = task is STARTUP
            results = measure_startup(settings) if startup else run_task(task.name, settings, task.check)
            print(f"bench:   {report.line(results)}", file=sys.stderr, flush=True)
            found[task.name] = task, results
    made = report.as_json(found, settings, versions, args.best)
    return _show(made, args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of every contender (default: all)")
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="PATTERN", help="names of tasks: 'train/*', chain")
    parser.add_argument("--contenders", nargs="+", default=list(MODULES), choices=list(MODULES), help="default: all")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: 9)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a turn (default: 0.2)")
    parser.add_argument("--quick", action="store_true", help="three short turns")
    parser.add_argument("--best", action="store_true", help="go by the quickest calls: for a machine that is not quiet")
    parser.add_argument("--json", metavar="FILE", help="write everything that was found")
    parser.add_argument("--compare", metavar="FILE", help="an older --json: show what became slower or faster")
    parser.add_argument("--keep", metavar="FOLDER", help="where to leave the models' files")
    return parser


def _versions(settings: Settings) -> dict[str, str]:
    """The contenders that there are, with their versions; the others are named on standard error."""
    found: dict[str, str] = {}
    for name in settings.contenders:
        process = None
        try:
            process = Process(name, settings.threads, settings.folder)
            found[name] = process.ask(do="version")["version"]
        except (Unable, RuntimeError) as e:
            print(f"bench: without {name}: {e}", file=sys.stderr)
        finally:
            if process is not None:
                process.close()
    return found


def _show(made: dict[str, Any], args: argparse.Namespace) -> int:
    machine = made["machine"]
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}")
    what = "quickest calls" if args.best else "medians ± half the quartile range"
    print(f"{args.threads} threads each; {', '.join(UNSET)} unset; load {machine['load'] or 0:.1f}; {what}")
    print("; ".join(f"{n} {v}" for n, v in made["versions"].items()), end="\n\n")
    for lines in (report.table, report.singles, report.memory_table):
        print("\n".join(lines(made)), end="\n\n")
    if args.json:
        Path(args.json).write_text(json.dumps(made, indent=1))
    if args.compare:
        print("\n".join(report.compare(json.loads(Path(args.compare).read_text()), made)) or "nothing changed")
    wrong = report.troubles(made)
    print("\n".join(f"TROUBLE: {w}" for w in wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
