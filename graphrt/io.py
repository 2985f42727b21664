"""Graphs in files of any format: our own by `graphrt.format`, every other through a converter plug-in.

The suffix says which format a file has; a file that begins as a ``.grt`` does is read as one in any case.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphrt import format as native
from graphrt.definitions import OPTIMIZER_DOMAIN, Converter
from graphrt.errors import ConversionError, FormatError, GraphrtError, SaveError
from graphrt.ir import Graph
from graphrt.manager import get_manager, get_registry
from graphrt.registry import Registry

PLUGINS = {".onnx": "graphrt-onnx", ".pt2": "graphrt-torch"}
"""Suffixes of formats that a separate package reads or writes, and that package."""


def load(path: str | os.PathLike[str], *, registry: Registry | None = None, **options: Any) -> Graph:
    """Reads a graph from a file.

    Args:
        path: ``.grt``, ``.json``, or a suffix that a converter plug-in serves, such as ``.onnx``.
        registry: where converters are looked up (default: what is installed).
        **options: for our own formats; see `graphrt.format.load`.

    Raises:
        FormatError: there is no such file, it is damaged, or nothing installed reads it.
        ConversionError: the converter cannot make a graph of it.
    """
    name = os.fspath(path)
    if _is_native(name) or not os.path.isfile(name) or _begins_as_grt(name):
        return native.load(name, **options)
    found = get_registry() if registry is None else registry
    converter = find_converter(name, found)
    if converter is None:
        raise FormatError(_unknown_suffix(name, found, "read", lambda c: c.load), path=name)
    if converter.load is None:
        raise ConversionError(f"{name}: the converter {converter.name!r} writes such files and cannot read them")
    from pathlib import Path  # half a dozen modules that files of our own do not need

    with _naming(converter, name, found):
        return converter.load(Path(name))


def save(graph: Graph, path: str | os.PathLike[str], *, registry: Registry | None = None) -> None:
    """Writes a graph to a file, whole or not at all.

    Where ops come from a plug-in and `Graph.requires` does not say which, our own formats note the distribution,
    so that a reader without it is told what to install.

    Args:
        graph: what to write.
        path: ``.grt``, ``.json``, or a suffix that a converter plug-in serves.
        registry: where converters are looked up (default: what is installed).

    Raises:
        SaveError: it cannot be written there, or nothing installed writes such files; a file that was there
            before is intact.
        ConversionError: the graph cannot be said in the other format.
    """
    name = os.fspath(path)
    if _is_native(name):
        native.save(with_requirements(graph), name)
        return
    found = get_registry() if registry is None else registry
    converter = find_converter(name, found)
    if converter is None:
        raise SaveError(f"{name}: {_unknown_suffix(name, found, 'written', lambda c: c.save)}")
    if converter.save is None:
        raise ConversionError(f"{name}: the converter {converter.name!r} reads such files and cannot write them")
    import shutil
    import tempfile
    from pathlib import Path

    target = os.path.realpath(name)
    try:
        scratch = tempfile.mkdtemp(prefix=".graphrt-", dir=os.path.dirname(target))
    except OSError as e:
        raise SaveError(f"{name}: cannot write there: {e.strerror}; choose a writable folder that exists") from e
    try:
        with _naming(converter, name, found):
            converter.save(graph, Path(scratch, os.path.basename(target)))
        _move_into_place(scratch, target, converter.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def with_requirements(graph: Graph) -> Graph:
    """The graph with an entry in ``requires`` for each domain whose ops an installed plug-in brings."""
    unknown = _domains(graph) - {"", "graphrt", OPTIMIZER_DOMAIN} - set(graph.requires)
    if not unknown:
        return graph
    manager = get_manager()
    found: dict[str, str] = {}
    for domain, plugin in manager.registry.plugins_by_domain().items():
        status = manager.status(plugin) if domain in unknown else None
        if status is not None and status.distribution:
            found[domain] = f"{status.distribution}>={status.version}"
    return graph.replace(requires={**graph.requires, **found}) if found else graph


def _domains(graph: Graph) -> set[str]:
    """The domains of all nodes, those of subgraphs too."""
    domains: set[str] = set()
    waiting = [graph]
    while waiting:
        for node in waiting.pop().nodes:
            domains.add(node.domain)
            waiting += node.subgraphs()
    return domains


def suffixes(registry: Registry) -> tuple[str, ...]:
    """Every suffix that `load` or `save` knows: our own, then those of converters."""
    more = (s.lower() for c in registry.table("converters").values() for s in c.suffixes)
    return tuple(dict.fromkeys([*native.SUFFIXES, *more]))


def find_converter(name: str, registry: Registry) -> Converter | None:
    """The converter that serves a file name, by its longest suffix; None when there is none."""
    serving = [
        (len(suffix), converter)
        for converter in registry.table("converters").values()
        for suffix in converter.suffixes
        if name.lower().endswith(suffix.lower())
    ]
    return max(serving, key=lambda pair: pair[0])[1] if serving else None


def _is_native(name: str) -> bool:
    return name.lower().endswith(native.SUFFIXES)


def _begins_as_grt(name: str) -> bool:
    try:
        with open(name, "rb") as f:
            return f.read(len(native.MAGIC)) == native.MAGIC
    except (OSError, ValueError):
        return False


def _unknown_suffix(name: str, registry: Registry, done: str, way: Callable[[Converter], Any]) -> str:
    suffix = os.path.splitext(name)[1].lower()
    able = [s for c in registry.table("converters").values() if way(c) is not None for s in c.suffixes]
    known = ", ".join(dict.fromkeys([*native.SUFFIXES, *able]))
    package = PLUGINS.get(suffix)
    hint = f": {package} brings it: pip install {package}" if package else ""
    what = f"files with the suffix {suffix!r}" if suffix else "files without a suffix"
    return f"{what} cannot be {done} here{hint}; known are {known}"


@contextmanager
def _naming(converter: Converter, name: str, registry: Registry) -> Iterator[None]:
    """Turns whatever a converter raises into a ConversionError that names it and the file."""
    try:
        yield
    except GraphrtError:
        raise
    except Exception as e:
        plugin = registry.plugin_of("converters", converter)
        raise ConversionError(
            f"{name}: the converter {converter.name!r} (plug-in {plugin}) failed: {type(e).__name__}: {e}"
        ) from e


def _move_into_place(scratch: str, target: str, converter: str) -> None:
    """Moves what a converter wrote beside the target, the file itself last."""
    main = os.path.basename(target)
    made = sorted(os.listdir(scratch), key=lambda n: n == main)
    if main not in made:
        raise SaveError(f"{target}: the converter {converter!r} wrote no file")
    try:
        for n in made:
            source = os.path.join(scratch, n)
            with open(source, "rb+") as f:
                os.fsync(f.fileno())
            os.replace(source, os.path.join(os.path.dirname(target), n))
    except OSError as e:
        raise SaveError(f"{target}: could not be written: {e.strerror}; what was there before is intact") from e
