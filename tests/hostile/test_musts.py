"""Every MUST of the specification is refused when it is broken, with position and reason."""

import re
from pathlib import Path

import pytest

from graphrt.errors import FormatError
from graphrt.format import dumps, from_json, loads

from . import builders
from .musts import CASES

SPECIFICATION = Path(__file__).parents[2] / "schemas" / "README.md"


def test_each_must_of_the_specification_has_a_hostile_file():
    numbered = re.findall(r"\*\*(M\d+)\*\*", SPECIFICATION.read_text())
    assert len(set(numbered)) == len(numbered)
    assert set(numbered) == {number for number, _, _ in CASES}


def test_what_the_builders_make_is_good_until_it_is_broken():
    for data in (builders.file(), builders.one_tensor(), builders.file(builders.graph(nodes=[builders.node()]))):
        assert dumps(loads(data)) == data
    from_json(builders.text())
    from_json(builders.text_attribute("1"))
    from_json(builders.text_tensor('{"dtype": "int8", "data": [[1, 2], [3, 4]]}'))


@pytest.mark.parametrize(("number", "build", "message"), CASES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(CASES)])
def test_broken_must_is_refused(number, build, message):
    data = build()
    with pytest.raises(FormatError, match=message) as caught:
        loads(data) if isinstance(data, bytes) else from_json(data)
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset <= len(data)
    assert caught.value.reason
