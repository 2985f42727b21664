"""Convolutions with kernels of 3 x 3 in steps of one, 4 x 4 outputs at a time: Winograd's F(4 x 4, 3 x 3).

A tile of 4 x 4 outputs reads 6 x 6 inputs; 36 products, each a matrix product over the channels that the BLAS does,
stand for 144. Compiled loops turn images into these 36 points of each tile and back, a block of tiles at a time.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015; on the choice of points: Barabasz,
Anderson, Soodhalter and Gregg, Error analysis and improving the accuracy of Winograd convolution, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from graphrt.definitions import Into
from graphrt.ops._windows import window
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.records import dataclass
from graphrt.runtime.kernels._kept import Kept
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows

POINTS, TAPS = 36, 9
PAD = 16
"""Numbers between the points of one kind and those of the next: powers of two would meet in the caches."""
MANY = 16
"""From how many channels and filters on the matrix products are worth their preparation."""
FEWEST, LONGEST = 64, 128
"""Tiles of all images, at least; tiles of a row, at most."""
SPEED = 0.005
"""Nanoseconds that one of the plain sum's products takes in the end, about."""
BLOCK = 128
"""Tiles of a block: enough for the matrix products, and few enough for the caches."""
LARGEST = 8192
"""Channels times filters up to which the weights' gradient is faster than by smaller tiles."""

_NEAR, _FAR = 0.5**0.5, 2**0.5
_LINE = np.array(
    [
        [1, 0, 0],
        *([1 / n, a / n, a * a / n] for a, n in ((_NEAR, -1.5), (-_NEAR, -1.5), (_FAR, 6.0), (-_FAR, 6.0))),
        [0, 0, 1],
    ]
)
"""Three numbers of a kernel to six points, 0, +-sqrt(1/2), +-sqrt(2), infinity, over products of their distances."""
KERNEL = np.einsum("ir,js->ijrs", _LINE, _LINE).reshape(POINTS, TAPS).astype(np.float32)
"""A kernel to its points."""


@dataclass(frozen=True)
class Tiles:
    """A correlation, y[n, m, o] = sum over c, t of w[m, c, t] x[n, c, o + t - begin], in tiles.

    Attributes:
        images, channels, filters: how many.
        size, out: of an image of x and of y.
        begin: padding above and to the left.
    """

    images: int
    channels: int
    filters: int
    size: tuple[int, int]
    out: tuple[int, int]
    begin: tuple[int, int]

    @property
    def down(self) -> int:
        """Rows of tiles of an image."""
        return -(-self.out[0] // 4)

    @property
    def along(self) -> int:
        """Tiles of a row."""
        return -(-self.out[1] // 4)

    @cached_property
    def bounds(self) -> Array:
        """Of the rows of tiles of all images, for one thread each."""
        products = self.images * self.channels * self.filters * math.prod(self.out) * TAPS
        return bounds_of(self.images * self.down, products * SPEED)

    @property
    def step(self) -> int:
        """Rows of tiles of a block."""
        return max(1, min(BLOCK // self.along, int(np.diff(self.bounds).max())))

    @property
    def layout(self) -> tuple[int, ...]:
        """What the loops take of it."""
        return self.channels, self.filters, *self.size, *self.begin, *self.out, self.down, self.along

    def turned(self) -> Tiles:
        """The correlation of y's cotangent with the turned kernels that gives x's."""
        above, before = self.begin
        return Tiles(self.images, self.filters, self.channels, self.out, self.size, (2 - above, 2 - before))

    def points_room(self, planes: int) -> tuple[int, int]:
        """The shape of scratch memory for the points of some planes, for each thread."""
        return len(self.bounds) - 1, POINTS * (planes * self.step * self.along + PAD)


def _tiles(site: KernelSite, x: str, w: str) -> Tiles | None:
    """The site's correlation; None where tiles do not serve or do not pay."""
    if not site.is_float(x, w) or site.inputs[x].dtype != "float32" or len(site.shape(x)) != 4:
        return None
    (n, channels, *size), (filters, inside, *kernel_shape), a = site.shape(x), site.shape(w), site.attributes
    if kernel_shape != [3, 3] or inside != channels or min(channels, filters) < MANY or n == 0:
        return None
    win = window(size, kernel_shape, a["strides"], a["dilations"], a["pads"], a["auto_pad"])
    if {*win.strides, *win.dilations} != {1} or not all(0 <= b <= 2 for b in win.begin) or min(win.end) < 0:
        return None
    tiles = Tiles(n, channels, filters, win.size, win.out, win.begin)  # type: ignore[arg-type]
    many = tiles.images * tiles.down * tiles.along >= FEWEST and max(tiles.along, tiles.turned().along) <= LONGEST
    return tiles if many else None


def _correlated(site: KernelSite, tiles: Tiles, turn: Callable[[Array], Array]) -> Into | None:
    """What computes y, of ``tiles``, from x, w as `turn` gives it, and b."""
    from graphrt_numba import tile_loops as loops
    from graphrt_numba.product_loops import product

    run = by_rows(loops.correlation, [*["int64"] * 12, *["float32*"] * 4, *["float32**"] * 2], tiles.bounds)
    m, c, numbers = tiles.filters, tiles.channels, (tiles.step, product(), *tiles.layout)
    kept, none = Kept(), np.empty(0, np.float32)

    def to_points(w: Array, points: Array) -> None:
        np.matmul(KERNEL, turn(w).reshape(m * c, TAPS).T, points.reshape(POINTS, m * c))

    def fill(x: Array, w: Array, b: Array | None, y: Array, room: Array, xs: Array, ys: Array) -> None:
        x, y, bias, kernels = x.ravel(), y.ravel(), none if b is None else b.ravel(), kept.of(w, room, to_points)
        run(*numbers, kernels.ravel(), x, bias, y, xs, ys)

    scratch = [(POINTS, m, c), tiles.points_room(c), tiles.points_room(m)]
    return site.into(fill, scratch=[(shape, "float32") for shape in scratch])


@kernel("Conv", name="numba_convolution", priority=PRIORITY)
def convolution(site: KernelSite) -> Into | None:
    """y from x, w and b."""
    tiles = _tiles(site, "x", "w")
    if tiles is None or (site.inputs.get("b") is not None and not site.is_float("x", "b")):
        return None
    return _correlated(site, tiles, lambda w: w)


@kernel("Conv.vjp[x]", name="numba_convolution_input_cotangent", priority=PRIORITY)
def convolution_input_cotangent(site: KernelSite) -> Into | None:
    """x's cotangent: ct correlated with the turned kernels."""
    tiles = _tiles(site, "x_like", "w")
    made = None if tiles is None else _correlated(site, tiles.turned(), lambda w: w.swapaxes(0, 1)[:, :, ::-1, ::-1])
    if made is None:
        return None
    return replace(made, fill=lambda ct, x_like, w, *arrays: made.fill(ct, w, None, *arrays))


@kernel("Conv.vjp[w]", name="numba_convolution_weight_cotangent", priority=PRIORITY)
def convolution_weight_cotangent(site: KernelSite) -> Into | None:
    """w's cotangent: products of the points of ct and of x, summed over the tiles."""
    tiles = _tiles(site, "x", "w_like")
    if tiles is None or tiles.channels * tiles.filters > LARGEST:
        return None
    from graphrt_numba import tile_loops as loops
    from graphrt_numba.product_loops import product

    run = by_rows(loops.weights, [*["int64"] * 12, *["float32*"] * 2, *["float32**"] * 3], tiles.bounds)
    m, c, parts, numbers = tiles.filters, tiles.channels, len(tiles.bounds) - 1, (tiles.step, product(), *tiles.layout)

    def fill(ct: Array, x: Array, w_like: Array, w_ct: Array, xs: Array, ys: Array, sums: Array) -> None:
        run(*numbers, ct.ravel(), x.ravel(), sums, xs, ys)
        for i in range(1, parts):
            np.add(sums[0], sums[i], sums[0])
        np.matmul(sums[0].reshape(POINTS, m * c).T, KERNEL, w_ct.reshape(m * c, TAPS))

    scratch = [tiles.points_room(c), tiles.points_room(m), (parts, POINTS * m * c)]
    return site.into(fill, scratch=[(shape, "float32") for shape in scratch])


KERNELS = (convolution, convolution_input_cotangent, convolution_weight_cotangent)
