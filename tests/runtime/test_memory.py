"""Where arrays are laid out: never two in one place at one time, and never in more room than need be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrt.errors import InputError
from graphrt.runtime import memory
from graphrt.runtime.memory import Tenant, lay_out, parse_bytes
from graphrt.types import TensorType


def tenant(nbytes, first, last, over=()):
    return Tenant(TensorType("uint8", (nbytes,)), first, last, tuple(over))


@st.composite
def tenants(draw):
    """Arrays in the order of their first steps; some may be written over earlier ones of their type."""
    made = []
    for first in sorted(draw(st.lists(st.integers(0, 12), max_size=25))):
        last = first + draw(st.integers(0, 6))
        same = [t for t in made if t.last >= first]
        over = draw(st.lists(st.sampled_from(same), max_size=2)) if same else []
        if over:
            made.append(Tenant(over[0].type, first, last, tuple(t for t in over if t.type == over[0].type)))
        else:
            made.append(tenant(64 * draw(st.integers(0, 9)), first, last))
    return made


def needed(made, step):
    """Bytes of what lives at a step; what takes another's place counts with that one."""
    return sum(t.room for t in made if t.first + t.in_place <= step <= t.last)


def check(made, nbytes):
    for i, a in enumerate(made):
        assert 0 <= a.offset <= a.offset + a.room <= nbytes
        for b in made[:i]:
            together = a.first <= b.last and b.first <= a.last
            apart = a.offset + a.room <= b.offset or b.offset + b.room <= a.offset
            taken_over = a.in_place and b in a.over and b.offset == a.offset and b.last == a.first
            assert apart or not together or taken_over or not a.room or not b.room
    assert nbytes >= max((needed(made, step) for step in range(20)), default=0)


@given(tenants(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_two_are_in_one_place_at_one_time(made, by_time_only):
    with pytest.MonkeyPatch.context() as patch:
        if by_time_only:
            patch.setattr(memory, "MOST_BY_SIZE", 0)
        nbytes = lay_out(made)
    check(made, nbytes)
    assert nbytes <= sum(t.room for t in made)
    heirs = [id(t) for a in made if a.in_place for t in a.over if (t.offset, t.last) == (a.offset, a.first)]
    assert len(heirs) >= sum(a.in_place for a in made)


def test_the_layout_by_size_is_taken_where_it_is_better():
    """In the order of time the third array would not fit between the first two."""
    sizes = [(64, 0, 1), (64, 0, 3), (128, 2, 4)]
    made = [tenant(*t) for t in sizes]
    assert lay_out(made) == 192
    check(made, 192)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "MOST_BY_SIZE", 0)
        assert lay_out([tenant(*t) for t in sizes]) == 256


def test_a_chain_that_is_written_in_place_takes_one_place():
    made = [tenant(640, 0, 1)]
    for step in range(1, 50):
        made.append(tenant(640, step, step + 1, [made[-1]]))
    assert lay_out(made) == 640
    assert all(t.in_place for t in made[1:])


def test_only_one_takes_over_a_place():
    first = tenant(64, 0, 1)
    made = [first, tenant(64, 1, 2, [first]), tenant(64, 1, 2, [first])]
    assert lay_out(made) == 128
    assert [t.in_place for t in made] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [(5, 5), ("7", 7), ("64 MB", 64_000_000), ("64MiB", 64 << 20), ("1.5 kb", 1500), ("2_000 B", 2000), ("1e3", 1000)],
)
def test_sizes_are_read(text, nbytes):
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("text", ["", "MB", "-3 MB", "0", "12 parsecs", "nan", "inf", True, None, np.float64("nan")])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="a limit of memory is a number of bytes above 0, or such as '64 MB', not"):
        parse_bytes(text)
