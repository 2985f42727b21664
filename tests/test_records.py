"""Records beside the data classes of the standard library, which they replace: nobody can tell them apart."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
import types
import weakref

import pytest

from graphrt import records

SOURCE = '''
from dataclasses import field

@dataclass(frozen={frozen}, eq={eq}, slots={slots}, weakref_slot={slots})
class Point:
    """A point."""

    x: int
    y: "list[int] | int" = 2
    names: list = field(default_factory=list)

@dataclass(frozen={frozen}, eq={eq}, slots={slots})
class Deep(Point):
    z: float = 0.5

@dataclass(frozen={frozen}, eq={eq}, slots={slots})
class Derived:
    x: int
    twice: int = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "twice", 2 * self.x)

@dataclass(frozen={frozen}, eq={eq}, slots={slots})
class Own:
    x: int = 1

    def __eq__(self, other):
        return isinstance(other, Own)

    def __repr__(self):
        return "own"

@dataclass(frozen={frozen}, eq={eq}, slots={slots})
class Single:
    x: object

@dataclass(frozen={frozen}, eq={eq}, slots={slots})
class Empty:
    pass
'''
CALLS = {
    "Point": [((1,), {}), ((1, 5), {}), ((1, 5, ["a"]), {}), ((), {"x": 0, "names": []}), ((), {}), ((1, 2, 3, 4), {})],
    "Deep": [((1,), {}), ((1, 2, [], 4.0), {}), ((1,), {"z": 3}), ((1,), {"w": 3})],
    "Derived": [((1,), {}), ((4,), {}), ((1, 2), {})],
    "Own": [((), {}), ((3,), {}), ((float("nan"),), {})],
    "Single": [((1,), {}), ((float("nan"),), {}), (([],), {})],
    "Empty": [((), {}), ((3,), {})],
}
OPTIONS = [(f, e, s) for f in (False, True) for e in (False, True) for s in (False, True)]


@pytest.fixture(params=OPTIONS, ids=lambda o: f"frozen={o[0]} eq={o[1]} slots={o[2]}")
def both(request, monkeypatch):
    """The classes made with the standard library's decorator, and with ours."""
    frozen, eq, slots = request.param
    made = []
    for name, decorator in (("standard", dataclasses.dataclass), ("ours", records.dataclass)):
        module = types.ModuleType(f"records_for_tests_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        module.dataclass = decorator
        exec(SOURCE.format(frozen=frozen, eq=eq, slots=slots), vars(module))
        made.append(module)
    return made


def outcome(function):
    """What a call gives, or the error with its text."""
    try:
        return function()
    except Exception as e:
        return type(e).__name__, str(e).replace("records_for_tests_standard", "").replace("records_for_tests_ours", "")


def facts(module, name, args, kwargs):
    """All that can be seen of an instance."""
    cls = getattr(module, name)
    made = outcome(lambda: cls(*args, **kwargs))
    if isinstance(made, tuple):
        return made
    twin = cls(*args, **kwargs)
    return [
        repr(made),
        repr(dataclasses.asdict(made)),
        made == twin,
        made == made,
        made != twin,
        made == 3,
        cls.__hash__ is object.__hash__ or outcome(lambda: hash(made) == hash(twin)),
        [(f.name, f.init, f.type) for f in dataclasses.fields(made)],
        not hasattr(twin, "x") or outcome(lambda: setattr(twin, "x", 9)),
        getattr(twin, "x", None),
        outcome(lambda: setattr(twin, "unknown", 9)) is None,
        not hasattr(twin, "x") or outcome(lambda: delattr(twin, "x")),
        repr(dataclasses.asdict(copy.deepcopy(made))),
        repr(dataclasses.asdict(pickle.loads(pickle.dumps(made)))),
        outcome(lambda: dataclasses.asdict(dataclasses.replace(made, x=7))),
        hasattr(made, "__dict__"),
        name == "Point" and outcome(lambda: weakref.ref(made)() is made),
        cls.__match_args__,
        cls.__qualname__,
    ]


@pytest.mark.parametrize("name", CALLS)
def test_a_record_is_what_the_standard_library_makes(both, name):
    standard, ours = both
    for args, kwargs in CALLS[name]:
        expected = facts(standard, name, args, kwargs)
        found = facts(ours, name, args, kwargs)
        assert found == expected


def test_each_instance_has_its_own_default(both):
    for module in both:
        a, b = module.Point(1), module.Point(1)
        assert a.names == [] and a.names is not b.names


def test_the_signature_is_there_before_the_first_instance():
    @records.dataclass(frozen=True)
    class Point:
        x: int
        y: int = 2

    class Named(Point):
        def __init__(self, name):
            super().__init__(len(name))

    assert str(inspect.signature(Point)) == "(x, y=2)"
    assert (Named("abc").x, Named("abc").y, Point(1)) == (3, 2, Point(1, 2))


def test_a_bare_decorator():
    @records.dataclass
    class Plain:
        """A record."""

        x: int = 1

    assert (Plain().x, Plain(2), Plain.__doc__) == (1, Plain(2), "A record.")
    assert Plain.__init__.__qualname__.endswith("Plain.__init__")
