"""``graphrt ops``: the ops there are, and their derivative rules."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Iterator
from typing import Any

from graphrt.cli.output import plain, print_json, table
from graphrt.cli.usage import UsageError
from graphrt.definitions import OPTIMIZER_DOMAIN
from graphrt.errors import UnknownOpError
from graphrt.manager import get_registry
from graphrt.op import Op
from graphrt.registry import Registry


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "examples:\n  graphrt ops\n  graphrt ops Conv\n  graphrt ops --domain graphrt --json"
    parser.add_argument("name", nargs="?", metavar="NAME", help="one op, in any case: its documentation and rules")
    parser.add_argument("--domain", help="only the ops of this domain; onnx is the default domain")
    parser.add_argument("--json", action="store_true", help="print JSON: every version of every op")


def run(args: argparse.Namespace) -> int:
    """Prints the table, or one op."""
    registry = get_registry()
    domain = "" if args.domain == "onnx" else args.domain
    names = registry.op_names()
    if domain is not None:
        updates = [(OPTIMIZER_DOMAIN, name) for name in registry.table("optimizers")]
        domains = sorted({d or "onnx" for d, _ in [*names, *updates]})
        names = [name for name in [*names, *updates] if name[0] == domain]
    if args.name:
        names = _named(args.name, names)
    elif domain is not None and not names:
        raise UsageError(f"no op of domain {args.domain!r}; domains: {', '.join(domains)}")
    found = list(_ops(names, registry, skip_failing=not args.name))
    if args.json:
        print_json([describe(o, registry) for o in found])
    elif args.name:
        print("\n\n".join(_details(o, registry) for o in found))
    else:
        newest = {(o.domain, o.op_type): o for o in found}
        headings = ["op", "version", "inputs", "differentiable", "plug-in"]
        print(table(headings, [_row(o, registry) for o in newest.values()]))
    return 0


def describe(o: Op, registry: Registry) -> dict[str, Any]:
    """One version of an op, for JSON."""
    return {
        "op_type": o.op_type,
        "domain": o.domain,
        "version": o.version,
        "inputs": [{"name": p.name, "optional": p.optional, "variadic": p.variadic} for p in o.inputs],
        "outputs": list(o.outputs),
        "attributes": [
            {"name": a.name, "kind": a.kind, "required": a.required, "default": plain(a.default)}
            for a in o.attributes.values()
        ],
        "differentiable": _differentiable(o),
        "elementwise": o.elementwise,
        "plugin": registry.plugin_of("ops", o),
        "doc": inspect.cleandoc(o.doc),
    }


def _named(name: str, names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    wanted = name.lower()
    found = [(d, op_type) for d, op_type in names if wanted in (op_type.lower(), f"{d}::{op_type}".lower())]
    if not found:
        lowered = {op_type.lower(): op_type for _, op_type in names}
        near = [lowered[n] for n in difflib.get_close_matches(wanted, lowered)]
        raise UsageError(f"no op {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    return found


def _ops(names: list[tuple[str, str]], registry: Registry, skip_failing: bool) -> Iterator[Op]:
    """Every version of these ops; those whose plug-in fails are left out, or an error."""
    for domain, op_type in names:
        try:
            yield from registry.versions(op_type, domain)
        except UnknownOpError:
            if not skip_failing:
                raise


def _differentiable(o: Op) -> list[str]:
    return [p.name for p in o.inputs if o.is_differentiable(p.name)]


def _row(o: Op, registry: Registry) -> tuple[Any, ...]:
    inputs = ", ".join(("*" if p.variadic else "") + p.name + ("?" if p.optional else "") for p in o.inputs)
    return o.qualified_name, o.version, inputs, ", ".join(_differentiable(o)) or "none", registry.plugin_of("ops", o)


def _details(o: Op, registry: Registry) -> str:
    lines = [
        f"{o.signature}",
        f"  version {o.version}, plug-in {registry.plugin_of('ops', o)}" + (", elementwise" if o.elementwise else ""),
        "",
        *(f"  {line}".rstrip() for line in inspect.cleandoc(o.doc).splitlines()),
        "",
    ]
    if o.attributes:
        rows = [(a.name, a.kind, "required" if a.required else repr(a.default)) for a in o.attributes.values()]
        lines += [f"  {line}" for line in table(["attribute", "kind", "default"], rows).splitlines()] + [""]
    lines += [f"  derivative in {p.name}: {_rule_text(o, p.name)}" for p in o.inputs]
    return "\n".join(lines)


def _rule_text(o: Op, name: str) -> str:
    if o.is_differentiable(name):
        group = o.vjp_group(name)
        rule = o.derived(f"vjp[{','.join(group)}]")
        keeps = [p.name for p in rule.inputs if not p.name.startswith("ct") and not p.name.endswith("_like")]
        return "yes" + (f", keeps {', '.join(keeps)}" if keeps else ", keeps nothing")
    return "none: nothing flows back through it" if name in o.nondiff else "no rule"
