"""What reading a file may cost at most: every size, count and depth has a declared limit."""

from __future__ import annotations

from graphrt.records import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds checked before memory is taken; the defaults fit every model we know of.

    The arrays of a container are views on the file and cost nothing until they are read, so no limit
    applies to them. String tensors are decoded when the file is opened.

    Args:
        max_header: bytes of a container's header (everything but the tensors).
        max_json: bytes of a JSON text.
        max_string: bytes of one string (a name, a symbol, a text) in the header.
        max_items: entries of one list or map.
        max_tensors: entries of the tensor table.
        max_depth: how deep graphs may lie within graphs.
        max_type_depth: how deep a value type may nest.
        max_rank: dimensions of one tensor or tensor type; NumPy allows 64.
        memory_base: bytes that the decoded graph may take in any case.
        memory_factor: bytes it may take beyond that for each byte of header (or JSON text).
    """

    max_header: int = 256 * MIB
    max_json: int = 256 * MIB
    max_string: int = 16 * MIB
    max_items: int = 1 << 24
    max_tensors: int = 1 << 20
    max_depth: int = 32
    max_type_depth: int = 16
    max_rank: int = 64
    memory_base: int = 8 * MIB
    memory_factor: int = 4


DEFAULT_LIMITS = Limits()
"""The limits that apply when none are given."""
