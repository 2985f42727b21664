"""What was found as a table, as JSON, and beside an older file."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import OURS
from .rounds import Result, Settings
from .tasks import Task

Tasks = Mapping[str, Mapping[str, Any]]


def machine() -> dict[str, Any]:
    """The processor, how many of it, the system, the Python."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    return {
        "cpu": model, "cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }  # fmt: skip


def as_json(
    tasks: Mapping[str, tuple[Task, dict[str, Result]]], settings: Settings, versions: Any, best: bool = False
) -> dict[str, Any]:
    """Everything about a run; with ``best`` the quickest calls stand for the medians."""
    found = {
        name: {"title": t.title, "group": t.group, "results": {k: r.as_json() for k, r in results.items()}}
        for name, (t, results) in tasks.items()
    }
    for entry in found.values():
        for result in entry["results"].values():
            if best and "best" in result:
                result["median"] = result["best"]
        entry["ratios"] = ratios(entry["results"])
    return {
        "machine": machine(),
        "versions": versions,
        "settings": {"threads": settings.threads, "rounds": settings.rounds, "seconds": settings.seconds, "best": best},
        "tasks": found,
        "means": means(found),
    }


def ratios(results: Mapping[str, Any]) -> dict[str, float]:
    """The fastest peer's time over each of ours; nothing without a peer."""
    medians = {name: r["median"] for name, r in results.items() if "median" in r}
    peers = [seconds for name, seconds in medians.items() if name not in OURS]
    return {name: min(peers) / medians[name] for name in OURS if name in medians and peers}


def means(tasks: Tasks) -> dict[str, dict[str, float]]:
    """Geometric means of the ratios of each group of tasks."""
    groups: dict[str, dict[str, list[float]]] = {}
    for entry in tasks.values():
        for name, ratio in entry["ratios"].items():
            groups.setdefault(entry["group"], {}).setdefault(name, []).append(ratio)
    return {g: {name: float(np.exp(np.mean(np.log(r)))) for name, r in each.items()} for g, each in groups.items()}


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    names = [n for n in report["versions"] if any(n in t["results"] for t in report["tasks"].values())]
    ours = [n for n in OURS if n in names]
    yield "| task | " + " | ".join([*names, *(f"ratio, {n}" for n in ours)]) + " |"
    yield "|---|" + "---:|" * (len(names) + len(ours))
    for task in report["tasks"].values():
        results = task["results"]
        if not any(n in results for n in names):
            continue
        best = min((r["median"] for n, r in results.items() if "median" in r), default=0.0)
        cells = [_cell(results.get(n, {}), best) for n in names]
        cells += [f"{task['ratios'][n]:.2f}" if n in task["ratios"] else "" for n in ours]
        yield f"| {task['title']} | " + " | ".join(cells) + " |"
    yield ""
    for group, each in report["means"].items():
        yield f"geometric mean, {group}: " + ", ".join(f"{n} {mean:.2f}" for n, mean in each.items())


def line(results: Mapping[str, Result]) -> str:
    """The medians of one task, to be shown while the others are still to come."""
    return ", ".join(f"{name} {duration(r.median())}" for name, r in results.items() if r.turns)


def memory_table(report: Mapping[str, Any]) -> Iterator[str]:
    """Peak memory of the training steps, in MB above the loaded libraries."""
    for name, task in report["tasks"].items():
        taken = {n: r["memory"] / 1e6 for n, r in task["results"].items() if "memory" in r}
        if name.startswith(("train/", "model-train/")) and taken:
            yield f"{task['title']}: " + ", ".join(f"{n} {mb:.0f} MB" for n, mb in taken.items())


def singles(report: Mapping[str, Any]) -> Iterator[str]:
    """Tasks whose results are programs of their own (start-up)."""
    for task in report["tasks"].values():
        if not task["results"].keys() & set(OURS):
            yield f"{task['title']}:"
            yield from (f"  {name}: {_cell(r, 0)}" for name, r in task["results"].items())


def troubles(report: Mapping[str, Any]) -> list[str]:
    """What failed or disagreed."""
    return [
        f"{name}: {who}: {r['why']}"
        for name, task in report["tasks"].items()
        for who, r in task["results"].items()
        if r.get("wrong")
    ]


def _cell(result: Mapping[str, Any], best: float) -> str:
    if "median" not in result:
        return "failed" if result.get("wrong") else ""
    spread = (result["high"] - result["low"]) / 2 / result["median"]
    text = f"{duration(result['median'])} ±{spread:.0%}"
    return f"**{text}**" if result["median"] == best else text


def duration(seconds: float) -> str:
    """Seconds with a fitting unit.

    >>> duration(0.00012), duration(0.0345), duration(2.5)
    ('120 µs', '34.5 ms', '2.5 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            return f"{seconds / size:.3g} {unit}"
    return ""


def compare(old: Mapping[str, Any], new: Mapping[str, Any], least: float = 0.05) -> Iterator[str]:
    """Where graphrt has become slower or faster by more than the noise of both runs.

    On the same machine with as many threads, times are compared, else the ratios to the fastest peer: they must
    differ by more than ``least`` and by more than half the quartile ranges of both.
    """
    alike = old["machine"]["cpu"] == new["machine"]["cpu"] and old["settings"]["threads"] == new["settings"]["threads"]
    for name, task in new["tasks"].items():
        before = old["tasks"].get(name, {"results": {}, "ratios": {}})
        for ours in OURS:
            a, b = before["results"].get(ours, {}), task["results"].get(ours, {})
            if "median" not in a or "median" not in b:
                continue
            noise = _noise(a) + _noise(b)
            if alike:
                change = b["median"] / a["median"]
            elif ours in before["ratios"] and ours in task["ratios"]:
                change = before["ratios"][ours] / task["ratios"][ours]
            else:
                continue
            if abs(change - 1) > max(noise, least):
                verdict = "REGRESSION" if change > 1 else "faster"
                what = "time" if alike else "time relative to the fastest peer"
                yield f"{verdict}: {task['title']}: {ours}: {change:.2f} times the {what} (noise {noise:.0%})"


def _noise(result: Mapping[str, Any]) -> float:
    return float(result["high"] - result["low"]) / 2 / float(result["median"])
