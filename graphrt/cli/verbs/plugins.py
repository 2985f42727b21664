"""``graphrt plugins``: the installed plug-ins and how they fared."""

from __future__ import annotations

import argparse
from typing import Any

from graphrt import __version__
from graphrt.cli.output import print_json, table
from graphrt.errors import PluginError
from graphrt.manager import Manager, get_manager
from graphrt.registry import KINDS


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        "exit code 1 when a plug-in failed, or two define the same name\n"
        "examples:\n  graphrt plugins\n  graphrt --disable-plugin slow plugins --json"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints each plug-in, its state and what it registers."""
    found, clashes = describe(get_manager())
    if args.json:
        print_json({"plugins": found, "clashes": clashes})
    else:
        rows = [
            (p["name"], f"{p['distribution']} {p['version']}".strip(), _state(p), _registered(p["registers"]))
            for p in found
        ]
        print(table(["plug-in", "distribution", "state", "registers"], rows))
        for p in found:
            if p["verbs"]:
                print(f"\nverbs of {p['name']}: {', '.join(p['verbs'])}")
        for clash in clashes:
            print(f"\nclash: {clash}")
    return 1 if clashes or any(p["state"] == "failed" for p in found) else 0


def describe(manager: Manager) -> tuple[list[dict[str, Any]], list[str]]:
    """Every plug-in with what it registers (kind to names), and what two plug-ins define both."""
    statuses = manager.statuses()
    registry, clashes = manager.registry, []
    names: dict[str, dict[str, list[str]]] = {}
    for kind in KINDS:
        try:
            definitions = registry.table(kind)
        except PluginError as e:
            clashes.append(str(e))
            continue
        for name, definition in definitions.items():
            names.setdefault(registry.plugin_of(kind, definition), {}).setdefault(kind, []).append(name)
    found = [_entry("graphrt", "graphrt", __version__, "ok", "", names)]
    found += [_entry(s.name, s.distribution, s.version, s.state, s.reason, names) for s in statuses]
    return found, clashes


def _entry(
    name: str, distribution: str, version: str, state: str, reason: str, names: dict[str, dict[str, list[str]]]
) -> dict[str, Any]:
    registers = names.get(name, {})
    return {
        "name": name,
        "distribution": distribution,
        "version": version,
        "state": state,
        "reason": reason,
        "registers": registers,
        "verbs": [] if name == "graphrt" else registers.get("commands", []),
    }


def _state(p: dict[str, Any]) -> str:
    return f"{p['state']}: {p['reason']}" if p["reason"] else str(p["state"])


def _registered(registers: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} {kind}" for kind, names in registers.items()) or "nothing"
