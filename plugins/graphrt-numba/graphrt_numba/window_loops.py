"""Loops over the planes of images for windows whose taps are written out: depthwise convolution and pooling.

A plane is padded and split into its phases: numbers whose places leave the same when they are divided by the strides.
In a phase each line has the length of a line of the output and what the window reaches beyond it, so that a tap is a
distance: for all outputs of the plane it reads the phase from there on, one number after the other. What is computed
beyond the ends of the output's lines is thrown away, or zeros are put there before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from graphrt_numba.compiler import ANY_ORDER, Loop, helper, inline, loop
from graphrt_numba.windows import Tap

Array = Any
Number = Any
TOGETHER = 8
"""How many sums a loop adds to at a time: as many as there are registers for."""
ZERO, NAN = np.float32(0), np.float32(np.nan)


@inline
def _ends(width: int, left: int, sw: int, q: int, pitch: int) -> tuple[int, int]:
    """The first place of a phase's line that lies in the plane, and the one after the last."""
    return max(0, -((q - left) // sw)), min(pitch, (width - 1 + left - q) // sw + 1)


@helper
def gather(
    x: Array, at: int, height: int, width: int, top: int, left: int, sh: int, sw: int, lines: int, pitch: int,
    size: int, phases: Array,
) -> None:  # fmt: skip
    """The phases, ``size`` apart, of the plane that begins at ``at``; the padding is left as it is."""
    for h in range(min(height, lines * sh - top)):
        row = x[at + h * width : at + (h + 1) * width]
        begin = (h + top) % sh * sw * size + (h + top) // sh * pitch
        if sw == 2:  # two phases at a time, which is one load for the compiler
            even = phases[begin + left % 2 * size + left // 2 :]
            odd = phases[begin + (left + 1) % 2 * size + (left + 1) // 2 :]
            count = min(width // 2, pitch - (left + 1) // 2)
            for i in range(count):
                even[i], odd[i] = row[2 * i], row[2 * i + 1]
            if 2 * count < width and left // 2 + count < pitch:
                even[count] = row[2 * count]
            continue
        for q in range(sw):
            first, stop = _ends(width, left, sw, q, pitch)
            out, line = phases[begin + q * size + first :], row[first * sw + q - left :]
            if sw == 1:
                for i in range(stop - first):
                    out[i] = line[i]
            else:
                for i in range(stop - first):
                    out[i] = line[sw * i]


@helper
def scatter(
    phases: Array, x: Array, at: int, height: int, width: int, top: int, left: int, sh: int, sw: int, lines: int,
    pitch: int, size: int,
) -> None:  # fmt: skip
    """The plane that begins at ``at`` from its phases; 0 where they do not reach."""
    for h in range(height):
        row = x[at + h * width : at + (h + 1) * width]
        begin = (h + top) % sh * sw * size + (h + top) // sh * pitch
        if (h + top) // sh >= lines or (width - 1 + left) // sw >= pitch:
            row[:] = 0
        if (h + top) // sh >= lines:
            continue
        if sw == 2:
            even = phases[begin + left % 2 * size + left // 2 :]
            odd = phases[begin + (left + 1) % 2 * size + (left + 1) // 2 :]
            count = min(width // 2, pitch - (left + 1) // 2)
            for i in range(count):
                row[2 * i], row[2 * i + 1] = even[i], odd[i]
            if 2 * count < width and left // 2 + count < pitch:
                row[2 * count] = even[count]
            continue
        for q in range(sw):
            first, stop = _ends(width, left, sw, q, pitch)
            to, line = row[first * sw + q - left :], phases[begin + q * size + first :]
            if sw == 1:
                for i in range(stop - first):
                    to[i] = line[i]
            else:
                for i in range(stop - first):
                    to[sw * i] = line[i]


@helper
def widen(y: Array, at: int, height: int, width: int, pitch: int, scale: Array, out: Array) -> None:
    """The plane that begins at ``at``, times ``scale`` if there is one, in lines of ``pitch``; other numbers stay."""
    for h in range(height):
        line, to = y[at + h * width : at + (h + 1) * width], out[h * pitch : h * pitch + width]
        if scale.size:
            factor = scale[h * width : (h + 1) * width]
            for i in range(width):
                to[i] = line[i] * factor[i]
        else:
            for i in range(width):
                to[i] = line[i]


@helper
def narrow(
    lines: Array, height: int, width: int, pitch: int, scale: Array, shift: Number, y: Array, at: int
) -> None:  # fmt: skip
    """The plane of y that begins at ``at`` from lines of ``pitch``, times ``scale`` if there is one, plus ``shift``."""
    for h in range(height):
        line, out = lines[h * pitch : h * pitch + width], y[at + h * width : at + (h + 1) * width]
        if scale.size:
            factor = scale[h * width : (h + 1) * width]
            for i in range(width):
                out[i] = line[i] * factor[i] + shift
        else:
            for i in range(width):
                out[i] = line[i] + shift


_LAYOUT = "height, width, top, left, out_height, out_width, sh, sw, lines, pitch, size"
_GATHER = "gather(x, {plane} * height * width, height, width, top, left, sh, sw, lines, pitch, size, phases)"
_SCATTER = "scatter(phases, x_ct, plane * height * width, height, width, top, left, sh, sw, lines, pitch, size)"
_WIDEN = "widen({y}, {plane} * out_height * out_width, out_height, out_width, pitch, {scale}, {out})"


def _loop(name: str, lines: Iterable[str]) -> Loop:
    """The loop of a text, in which the slices ``s0``, ``s1``, ... are the phases as the taps read them."""
    text = "\n".join(lines)
    full = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    space = {
        "__name__": __name__, "gather": gather, "scatter": scatter, "widen": widen, "narrow": narrow,
        "ZERO": ZERO,
    }  # fmt: skip
    exec(compile(f"def {full}{text}", "window", "exec"), space)
    return Loop(space[full], **({"fastmath": ANY_ORDER} if name == "products" else {}))


def _slices(taps: tuple[Tap, ...], array: str, letter: str, indent: int) -> list[str]:
    """``s0 = phases[...]``: what each tap reads (or writes) for the first output, and so on."""
    return [
        f"{' ' * indent}{letter}{t} = {array}[{tap.phase} * size + {tap.down} * pitch + {tap.along}:]"
        for t, tap in enumerate(taps)
    ]


@cache
def correlation(taps: tuple[Tap, ...]) -> Loop:
    """y = scale times the sum of the taps, each times its weight, plus b; ``step``: weights of a channel."""
    terms = " + ".join(f"w{t} * s{t}[u]" for t in range(len(taps)))
    return _loop("correlation", [
        f"(first, last, channels, step, {_LAYOUT}, scale, x, w, b, y, phases, sums):",
        " phases[:] = ZERO",
        " for plane in range(first, last):",
        "  c = plane % channels",
        "  " + _GATHER.format(plane="plane"),
        *(f"  w{t} = w[c * step + {t}]" for t in range(len(taps))),
        *_slices(taps, "phases", "s", 2),
        "  for u in range(out_height * pitch):",
        f"   sums[u] = {terms}",
        "  shift = b[c] if b.size else ZERO",
        "  narrow(sums, out_height, out_width, pitch, scale, shift, y, plane * out_height * out_width)",
    ])  # fmt: skip


@cache
def adjoint(taps: tuple[Tap, ...], count: int) -> Loop:
    """The adjoint of `correlation` by x: of ``count`` phases each gathers what its taps gave away."""
    lines = [
        f"(first, last, channels, step, {_LAYOUT}, scale, ct, w, x_ct, phases, wide):",
        f" front = {max(t.down for t in taps)} * pitch + {max(t.along for t in taps)}",
        " wide[:] = ZERO",
        " for plane in range(first, last):",
        "  c = plane % channels",
        "  " + _WIDEN.format(y="ct", plane="plane", scale="scale", out="wide[front:]"),
        *(f"  w{t} = w[c * step + {t}]" for t in range(len(taps))),
        *(f"  s{t} = wide[front - {tap.down} * pitch - {tap.along}:]" for t, tap in enumerate(taps)),
    ]
    for phase in range(count):
        terms = [f"w{t} * s{t}[u]" for t, tap in enumerate(taps) if tap.phase == phase]
        lines += [
            f"  to = phases[{phase} * size : {phase + 1} * size]",
            "  for u in range(lines * pitch):",
            f"   to[u] = {' + '.join(terms) or 'ZERO'}",
        ]
    return _loop("adjoint", [*lines, "  " + _SCATTER])


@cache
def products(taps: tuple[Tap, ...]) -> Loop:
    """The adjoint of `correlation` by the weights: for each channel and tap the sum of ct times what the tap reads."""
    lines = [
        f"(first, last, channels, images, {_LAYOUT}, none, ct, x, w_ct, phases, wide):",
        " phases[:], wide[:] = ZERO, ZERO",
        " for c in range(first, last):",
        *(f"  t{t} = 0.0" for t in range(len(taps))),
        "  for n in range(images):",
        "   " + _GATHER.format(plane="(n * channels + c)"),
        "   " + _WIDEN.format(y="ct", plane="(n * channels + c)", scale="none", out="wide"),
        *_slices(taps, "phases", "s", 3),
    ]
    for start in range(0, len(taps), TOGETHER):
        some = range(start, min(start + TOGETHER, len(taps)))
        lines += [f"   g{t} = ZERO" for t in some]
        lines += ["   for u in range(out_height * pitch):", "    v = wide[u]"]
        lines += [f"    g{t} += v * s{t}[u]" for t in some]
        lines += [f"   t{t} += g{t}" for t in some]
    return _loop("products", [*lines, *(f"  w_ct[c * {len(taps)} + {t}] = t{t}" for t in range(len(taps)))])


@loop
def winners(
    first: int, last: int, height: int, width: int, top: int, left: int, out_height: int, out_width: int,
    sh: int, sw: int, lines: int, pitch: int, size: int, distances: Array, ct: Array, x: Array, y: Array, x_ct: Array,
    phases: Array, gains: Array, maxima: Array, wide: Array,
) -> None:  # fmt: skip
    """The cotangent of `largest`: the first tap that reads the maximum takes all of ct, which then is 0 for others.

    ``distances``: of each tap, from the first phase's begin.
    """
    phases[:], wide[:] = NAN, ZERO
    for plane in range(first, last):
        at, out = plane * height * width, plane * out_height * out_width
        gather(x, at, height, width, top, left, sh, sw, lines, pitch, size, phases)
        widen(y, out, out_height, out_width, pitch, x[:0], maxima)
        widen(ct, out, out_height, out_width, pitch, x[:0], wide)
        gains[:] = ZERO
        for t in range(distances.size):
            read, gain = phases[distances[t] :], gains[distances[t] :]
            for u in range(out_height * pitch):
                won = read[u] == maxima[u]
                gain[u] += wide[u] if won else ZERO
                wide[u] = ZERO if won else wide[u]
        scatter(gains, x_ct, at, height, width, top, left, sh, sw, lines, pitch, size)
