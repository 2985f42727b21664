"""Data classes that are quick to define.

`dataclass` here makes what that of the standard library makes. That one compiles each method of each class on its own,
half a millisecond a class, which for the classes that a first prediction needs adds up to a fifth of its time. This
one compiles ``__init__`` alone, for the first object. ``field``, ``fields``, ``replace`` and ``asdict`` are the
standard library's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass", "field"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: Any = None, /, *, frozen: bool = False, eq: bool = True, **options: Any) -> Any:
        """As `dataclasses.dataclass` with these options; ``options``: ``slots`` and ``weakref_slot``."""
        if cls is None:
            return lambda c: _define(c, frozen, eq, options)
        return _define(cls, frozen, eq, options)


def _define(cls: type, frozen: bool, eq: bool, options: dict[str, Any]) -> Any:
    own = set(cls.__dict__) - ({"__hash__"} if cls.__hash__ is None else set())  # None follows from an own __eq__
    cls.__doc__ = cls.__doc__ or f"{cls.__name__}."  # else a text is made of the signature, in a millisecond
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, **options)(cls)
    fields = dataclasses.fields(made)
    methods: dict[str, Any] = {"__init__": _Init(made, fields, frozen), "__repr__": _repr}
    if eq:
        methods |= _comparison(fields, frozen)
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if options.get("slots"):
            methods |= {"__getstate__": _state, "__setstate__": _set_state}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return made


class _Init:
    """Stands for ``__init__`` until somebody asks for it: a first prediction makes objects of half of the classes."""

    def __init__(self, owner: Any, fields: tuple[Field[Any], ...], frozen: bool):
        self.owner, self.fields, self.frozen = owner, fields, frozen

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        made = _init(self.fields, self.frozen, hasattr(self.owner, "__post_init__"))
        made.__qualname__ = f"{self.owner.__qualname__}.__init__"
        self.owner.__init__ = made
        return made.__get__(instance, owner)


def _init(fields: tuple[Field[Any], ...], frozen: bool, post_init: bool) -> Any:
    lines = [f"def __init__(self{''.join(f', {_argument(f)}' for f in fields if f.init)}):"]
    for f in fields:
        value = f"_fields[{f.name!r}].default_factory()"
        if f.init:
            value = f.name if f.default_factory is MISSING else f"{value} if {f.name} is _missing else {f.name}"
        elif f.default_factory is MISSING:
            continue
        lines.append(f" _set(self, {f.name!r}, {value})" if frozen else f" self.{f.name} = {value}")
    lines.append(" self.__post_init__()" if post_init else " pass")
    space: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING, "_fields": {f.name: f for f in fields}}
    exec("\n".join(lines), space)
    return space["__init__"]


def _comparison(fields: tuple[Field[Any], ...], frozen: bool) -> dict[str, Any]:
    names = [f.name for f in fields]
    values: Callable[[Any], tuple[Any, ...]]
    values = attrgetter(*names) if len(names) > 1 else lambda self: tuple(getattr(self, n) for n in names)

    def __eq__(self: Any, other: Any) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if frozen else None}


def _argument(f: Field[Any]) -> str:
    if f.default_factory is not MISSING:
        return f"{f.name}=_missing"
    return f.name if f.default is MISSING else f"{f.name}=_fields[{f.name!r}].default"


def _repr(self: Any) -> str:
    values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self))
    return f"{type(self).__qualname__}({values})"


def _refuse_to_set(self: Any, name: str, value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, f.name) for f in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for f, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, f.name, value)
