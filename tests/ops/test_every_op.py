"""Every registered op, every version, passes the conformance kit."""

import pytest

from graphrt.manager import get_registry
from graphrt.testing import check_op

OPS = tuple(get_registry().ops())


@pytest.mark.parametrize("op", OPS, ids=[f"{o.qualified_name}-{o.version}" for o in OPS])
def test_keeps_the_contract(op):
    check_op(op)


@pytest.mark.parametrize("op", OPS, ids=[f"{o.qualified_name}-{o.version}" for o in OPS])
def test_says_what_it_is(op):
    assert op.doc.strip(), "the docstring says what the op is"


def test_no_op_is_defined_twice():
    keys = [(o.domain, o.op_type, o.version) for o in OPS]
    assert len(keys) == len(set(keys))
