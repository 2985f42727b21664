"""The kernel for groups of single numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, Graph, KernelSite, kernel
from graphrt.runtime.formulas import FOLDS, OPERANDS, SETTINGS
from graphrt.runtime.fusion import ALIASES, is_scalar
from graphrt.runtime.kernels.scalars import attributes_of
from graphrt_numba.sharing import PRIORITY

FIELDS = 5
"""Numbers of an instruction: which one it is, and the registers of up to four operands."""

LEAST = 256
"""How many nodes a group has at least: Python is through with fewer in ten microseconds."""


@kernel("FusedScalars", name="numba_tape", domain="graphrt", priority=PRIORITY)
def tape(site: KernelSite) -> Into | None:
    """The nodes of the body as a tape."""
    body: Graph = site.attributes["body"]
    if len(body.nodes) < LEAST or not all(map(is_scalar, (*site.inputs["inputs"], *site.outputs))):
        return None
    from graphrt_numba.tape import INSTRUCTIONS, machine  # and with it numba, now that there is something to compile

    if not INSTRUCTIONS.keys() >= {n.op_type for n in body.nodes}:
        return None
    code, constants, register = _assemble(body, INSTRUCTIONS)
    run = machine().compiled("int64", "uint32*", "float64*")
    flat, count, after = code.ravel(), len(code), len(body.inputs)
    first = count + after
    results = [register[o] for o in body.output_names]

    def fill(*arrays: Array) -> None:
        registers = arrays[-1]
        for i, x in enumerate(arrays[:after], count):
            registers[i] = x
        registers[first:] = constants
        run(count, flat, registers)
        for y, i in zip(arrays[after:-1], results, strict=True):
            y[()] = registers[i]

    return site.into(fill, scratch=[((first + len(constants),), "float64")])


def _assemble(body: Graph, instructions: Mapping[str, int]) -> tuple[Array, list[float], dict[str, int]]:
    """The tape: an instruction a row, the constants that it reads, and the register of each value.

    There is a register for each instruction, then for each input, then for each constant.
    """
    rows: list[list[int]] = []
    constants: dict[str, int] = {}  # by what they print as: 0.0 and -0.0 are two
    register = {name: ~i for i, name in enumerate(body.input_names)}  # ~i: the i-th after those of the instructions
    for node in body.nodes:
        name, read = node.op_type, [register[n] for n in node.inputs if n]
        if name in ALIASES or (name in FOLDS and len(read) == 1):
            register[node.outputs[0]] = read[0]
            continue
        settings = [repr(float(attributes_of(node, body)[k])) for k in SETTINGS.get(name, ())]
        held = [~(len(body.inputs) + constants.setdefault(value, len(constants))) for value in settings]
        first, *rest = [[read[0], r] for r in read[1:]] if name in FOLDS else [read[: OPERANDS[name]] + held]
        rows.append([instructions[name], *first])
        for _, other in rest:  # a fold goes on from its last result
            rows.append([instructions[name], len(rows) - 1, other])
        register[node.outputs[0]] = len(rows) - 1
    padded = np.zeros((len(rows), FIELDS), np.int64)
    for row, instruction in zip(padded, rows, strict=True):
        row[: len(instruction)] = instruction
    code = np.where(padded < 0, len(padded) + ~padded, padded).astype(np.uint32)
    return code, [*map(float, constants)], {name: at if at >= 0 else len(padded) + ~at for name, at in register.items()}


KERNELS = (tape,)
