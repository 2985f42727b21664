"""Sliding windows: the geometry that convolution and pooling share.

A window op visits, for every output position ``o`` and kernel tap ``t``, the input position
``o * stride - begin + t * dilation``. `Window.taps` turns that into pairs of slices, one pair per tap, that
leave out the padding; so nothing is ever padded, and a loop over taps is the only loop there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TypeAlias

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.types import Dim, Shape

Ints: TypeAlias = tuple[int, ...]

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class Window:
    """Where a window reads, per spatial axis.

    Attributes:
        size, out: extent of the input and of the output.
        kernel, strides, dilations: the window.
        begin, end: padding before and after the input.
    """

    size: Ints
    out: Ints
    kernel: Ints
    strides: Ints
    dilations: Ints
    begin: Ints
    end: Ints

    @property
    def n_taps(self) -> int:
        """How many elements the kernel has."""
        return math.prod(self.kernel)

    @property
    def is_pointwise(self) -> bool:
        """Whether every output position reads the input at the same position and nothing else."""
        return self.n_taps == 1 and self.size == self.out and set(self.strides) <= {1} and not any(self.begin)

    def taps(self) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """Yields (tap number in row-major order, slices of the output, slices of the input)."""
        axes = [
            [self._tap(i, t) for t in range(k)] for i, k in enumerate(self.kernel)
        ]  # per axis and tap: (output slice, input slice) or None when it reads padding only
        for number, pairs in enumerate(product(*axes)):
            inside = [p for p in pairs if p is not None]
            if len(inside) == len(pairs):
                yield number, tuple(p[0] for p in inside), tuple(p[1] for p in inside)

    def _tap(self, axis: int, tap: int) -> tuple[slice, slice] | None:
        stride, shift = self.strides[axis], tap * self.dilations[axis] - self.begin[axis]
        low = max(0, -(shift // stride))
        high = min(self.out[axis], (self.size[axis] - 1 - shift) // stride + 1)
        if high <= low:
            return None
        start = low * stride + shift
        return slice(low, high), slice(start, start + (high - low - 1) * stride + 1, stride)

    def counts(self, include_pad: bool) -> list[Array]:
        """Per axis, int [out]: how many taps read the input (or, with ``include_pad``, input or padding)."""
        result = []
        for n, o, k, s, d, b, e in zip(
            self.size, self.out, self.kernel, self.strides, self.dilations, self.begin, self.end, strict=True
        ):
            at = np.arange(o)[:, None] * s + np.arange(k) * d
            result.append(np.sum(at < n + b + e if include_pad else (at >= b) & (at < n + b), axis=1))
        return result


def window(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Window:
    """The window of ONNX's attributes over an input of the given spatial size.

    Raises:
        ValueError: attribute lengths do not fit the spatial rank, or the window is wider than its input.
    """
    axes = _axes(len(size), kernel, strides, dilations, pads, auto_pad)
    bounds = []
    for n, (k, s, d, b, e) in zip(size, axes, strict=True):
        span = (k - 1) * d + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            o = -(-n // s)
            total = max((o - 1) * s + span - n, 0)
            b = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            e = total - b
        else:
            o = _out(n + b + e, n + b, span, s, ceil_mode)
        bounds.append((o, b, e))
    ks, ss, ds, _, _ = zip(*axes, strict=True) if axes else ((),) * 5
    out, begin, end = zip(*bounds, strict=True) if axes else ((),) * 3
    return Window(tuple(map(int, size)), out, ks, ss, ds, begin, end)


def window_dims(
    size: Sequence[Dim],
    kernel: Sequence[Dim],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Shape:
    """The output's spatial dimensions, as far as they are known; a symbol stays where the size does not change."""
    known = [1 if not isinstance(k, int) else k for k in kernel]
    axes = _axes(len(size), known, strides, dilations, pads, auto_pad)
    dims: list[Dim] = []
    for n, kernel_dim, (k, s, d, b, e) in zip(size, kernel, axes, strict=True):
        span, same = (k - 1) * d + 1, auto_pad.startswith("SAME")
        if isinstance(n, str) and s == 1 and (same or (isinstance(kernel_dim, int) and b + e == span - 1)):
            dims.append(n)
        elif not isinstance(n, int) or not (same or isinstance(kernel_dim, int)):
            dims.append(None)
        else:
            dims.append(-(-n // s) if same else _out(n + b + e, n + b, span, s, ceil_mode))
    return tuple(dims)


def _out(padded: int, last_start: int, span: int, stride: int, ceil_mode: int) -> int:
    rest = padded - span
    n = -(-rest // stride) + 1 if ceil_mode else rest // stride + 1
    if n < 1:
        raise ValueError(f"a window spanning {span} positions does not fit into {padded} (padding included)")
    if not ceil_mode:
        return n
    return n - 1 if (n - 1) * stride >= last_start else n  # a window must not start in the padding at the end


def _axes(
    rank: int,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
) -> list[tuple[int, int, int, int, int]]:
    if auto_pad not in AUTO_PADS:
        raise ValueError(f"auto_pad is one of {', '.join(AUTO_PADS)}, not {auto_pad!r}")
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    pads = pads if pads and auto_pad == "NOTSET" else (0,) * (2 * rank)
    lengths = ("kernel_shape", kernel, rank), ("strides", strides, rank), ("dilations", dilations, rank)
    for name, given, n in (*lengths, ("pads", pads, 2 * rank)):
        if len(given) != n:
            raise ValueError(f"{name} has {len(given)} entries for {rank} spatial axes; expected {n}")
        if name != "pads" and min(given, default=1) < 1:
            raise ValueError(f"{name} {tuple(given)} must be positive")
    return [
        (int(k), int(s), int(d), int(pads[i]), int(pads[rank + i]))
        for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True))
    ]


def wide(x: Array) -> Array:
    """``x`` itself, or float32 for 16-bit floats: sums of many products need the bits (and have the BLAS)."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


def zeros_for(shape: Sequence[int], *data: Array) -> Array:
    """Zeros to collect products of ``data`` in: dual when any of them is, of their common dtype."""
    kind = next((a for a in data if not isinstance(a, np.ndarray)), data[0])
    return np.zeros(shape, np.result_type(*(a.dtype for a in data)), like=kind)
