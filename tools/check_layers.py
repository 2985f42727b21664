"""Checks that imports inside graphrt flow downward only, and that each library stays in its place.

    python tools/check_layers.py

A module may import from lower levels, and from its own folder. Prints each import that breaks the rule and
exits with 1 if there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "graphrt"

LEVELS = (
    ("errors", "installed", "records"),
    ("types", "dual"),
    ("ir",),
    ("op",),
    ("definitions",),
    ("plugin", "hookspecs"),
    ("format", "registry", "ops", "optim"),
    ("manager", "inference"),
    ("autodiff", "passes", "io"),
    ("trainability",),
    ("check", "runtime"),
    ("expressions",),
    ("train", "testing", "models", "plots"),
    ("cli",),
    ("builtin", "__init__", "__main__"),
)
"""The rooms of the package from the ground up; a room is a module or a folder of it."""

ONLY_IN = {
    "msgpack": ("format/",),
    "networkx": ("ir/dag.py",),
    "pluggy": ("plugin.py", "hookspecs.py", "manager.py"),
}
"""Libraries that may be imported in these places only."""

LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, also inside functions, but not of those for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "graphrt":
                yield from ((node.lineno, f"graphrt.{a.name}") for a in node.names)
            else:
                yield node.lineno, node.module


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module path relative to the package."""
    return parts[0].removesuffix(".py")


def problems_of(path: Path) -> Iterator[str]:
    """What one file imports that it must not."""
    relative = path.relative_to(ROOT)
    room = room_of(relative.parts)
    if room not in LEVEL_OF:
        yield f"graphrt/{relative}: its room {room!r} has no level; add it to LEVELS"
        return
    for line, name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        top, _, rest = name.partition(".")
        places = ONLY_IN.get(top)
        if places and not any(str(relative).startswith(p) for p in places):
            yield f"graphrt/{relative}:{line}: {top} is imported only in {', '.join(places)}"
        if top != "graphrt" or not rest:
            continue
        other = rest.split(".")[0]
        if other == room or LEVEL_OF.get(other, -1) < LEVEL_OF[room]:
            continue
        own, its = LEVEL_OF[room], LEVEL_OF.get(other)
        yield f"graphrt/{relative}:{line}: {room} (level {own}) imports {other} (level {its})"


def main() -> int:
    """Checks every file of the package."""
    found = [p for path in sorted(ROOT.rglob("*.py")) for p in problems_of(path)]
    print("\n".join(found) or "imports flow downward")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
