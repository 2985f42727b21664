"""Dual arrays against finite differences, function by function, and their promises about lost tangents."""

import math
import warnings

import numpy as np
import pytest

from graphrt.dual import Dual, elementary, next_level, tangent_of
from graphrt.errors import NotDifferentiableError

A = np.array([[0.3, -1.2, 0.7], [1.9, 0.4, -0.6]])
B = np.array([[1.1, 0.5, -0.8], [-0.2, 1.6, 0.9]])
S = np.array([[2.0, 0.3, -0.1], [0.4, 1.5, 0.2], [-0.3, 0.6, 1.8]])
P = np.abs(A) + 0.1
U = A / 2.5


def written(x, write):
    out = np.zeros((3, 4), like=x)
    write(out)
    return out


def put(out, x):
    np.put_along_axis(out[:, :3], np.array([[0, 2, 1]]), x[:1], axis=0)


def copied(out, x):
    np.copyto(out[:2, :3], x)
    np.fill_diagonal(out, 2.0)


CASES = {
    # ufuncs
    "add": (lambda a, b: a + b + 1, A, B),
    "subtract": (lambda a, b: 2 - a - b, A, B),
    "multiply": (lambda a, b: a * b * 3, A, B),
    "divide": (lambda a, b: a / b + 1 / b, A, B),
    "power": (lambda a, b: a**b + a**3 + 2.0**b, P, B),
    "powers of zero": (lambda a: a**2 + a**0, A * 0),
    "float_power": (np.float_power, P, B),
    "broadcast": (lambda a, b: a * b[0] + b[:, :1], A, B),
    "negative": (lambda a: -a, A),
    "positive": (lambda a: +a, A),
    "absolute": (abs, A),
    "fabs": (np.fabs, A),
    "hypot": (np.hypot, A, B),
    "arctan2": (np.arctan2, A, B),
    "logaddexp": (np.logaddexp, A, B),
    "logaddexp2": (np.logaddexp2, A, B),
    "maximum": (np.maximum, A, B),
    "minimum": (np.minimum, A, B),
    "fmax": (np.fmax, A, B),
    "fmin": (np.fmin, A, B),
    "fmod": (np.fmod, A * 2.9, B),
    "remainder": (lambda a, b: a % b, A * 2.9, B),
    "divmod": (lambda a, b: divmod(a, b)[1], A * 2.9, B),
    "copysign": (np.copysign, A, B),
    "modf": (lambda a: np.modf(3 * a)[0], A),
    "frexp": (lambda a: np.frexp(3 * a)[0], A),
    "ldexp": (lambda a: np.ldexp(a, 3), A),
    "matmul": (lambda a, b: a @ b.T, A, B),
    "matmul of a constant": (lambda a: S[:2, :2] @ a, A),
    "outer of a ufunc": (lambda a, b: np.subtract.outer(a, b), A, B),
    "add.reduce": (lambda a: np.add.reduce(a, axis=1), A),
    "add.reduce of the first axis": (np.add.reduce, A),
    "add.reduceat": (lambda a: np.add.reduceat(a, [0, 2], axis=1), A),
    "multiply.reduce": (lambda a: np.multiply.reduce(a, axis=1), A),
    "maximum.reduce": (lambda a: np.maximum.reduce(a, axis=1, keepdims=True), A),
    "minimum.reduce": (lambda a: np.minimum.reduce(a), A),
    "logaddexp.reduce": (lambda a: np.logaddexp.reduce(a, axis=-1), A),
    "add.accumulate": (lambda a: np.add.accumulate(a, axis=1), A),
    "multiply.accumulate": (lambda a: np.multiply.accumulate(a, axis=1), A),
    "maximum.accumulate": (lambda a: np.maximum.accumulate(a, axis=1), A),
    "minimum.accumulate": (lambda a: np.minimum.accumulate(a, axis=1), A),
    "ufunc with out and where": (lambda a: np.divide(1, a, out=np.zeros_like(a), where=A > 0), A),
    # shapes
    "reshape": (lambda a: a.reshape(3, 2) + np.reshape(a, (3, -1)), A),
    "ravel, flatten": (lambda a: a.ravel() * a.flatten(), A),
    "transpose": (lambda a: a.T + a.transpose(1, 0) + np.transpose(a), A),
    "swapaxes, moveaxis, rollaxis": (lambda a: a.swapaxes(0, 1) + np.moveaxis(a, 0, 1) + np.rollaxis(a, 1), A),
    "expand_dims, squeeze": (lambda a: np.squeeze(np.expand_dims(a, (0, 2)), 0) + a[:, None], A),
    "broadcast_to": (lambda a: np.broadcast_to(a, (4, 2, 3)), A),
    "broadcast_arrays": (lambda a, b: np.multiply(*np.broadcast_arrays(a, b[0])), A, B),
    "atleast": (lambda a: np.atleast_3d(a) + np.atleast_1d(a[0, 0]), A),
    "concatenate": (lambda a, b: np.concatenate([a, b, np.ones((1, 3))]), A, B),
    "stack": (lambda a, b: np.stack((a, 2 * b), axis=1), A, B),
    "vstack, hstack, dstack": (
        lambda a, b: np.vstack([a, b]).sum() + np.hstack([a, b]) * np.dstack([a, b]).sum(),
        A,
        B,
    ),
    "block": (lambda a, b: np.block([[a, b], [b, a]]), A, B),
    "append": (lambda a, b: np.append(a, b, axis=0), A, B),
    "split": (lambda a: np.split(a, 3, axis=1)[1] * np.array_split(a, 2, axis=1)[0], A),
    "tile, repeat, roll": (lambda a: np.tile(a, (1, 2)) * np.roll(a.repeat(2, axis=1), 1), A),
    "flip, rot90": (lambda a: np.flip(a, 1).T @ np.rot90(a).T, A),
    "diag and kin": (lambda a: np.diag(np.diagonal(a)) + np.trace(a), S),
    "tril, triu": (lambda a: np.tril(a) @ np.triu(a, 1), S),
    "meshgrid": (lambda a, b: np.multiply(*np.meshgrid(a[0], b[1])), A, B),
    "pad": (lambda a: np.pad(a, ((1, 0), (2, 1)), constant_values=5.0), A),
    "pad, reflecting": (lambda a: np.pad(a, 1, mode="reflect"), A),
    "windows": (lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, axis=1)[..., ::-1], A),
    # choosing
    "where": (lambda a, b: np.where(a > 0, a, b * 2), A, B),
    "where, a constant branch": (lambda a: np.where(a > 0, a * a, 7), A),
    "select": (lambda a, b: np.select([A > 1, A > 0], [a, b], 3.0), A, B),
    "clip": (lambda a: np.clip(a, -0.5, 0.5) + a.clip(0.1) + a.clip(max=0.35), A),
    "take": (lambda a: np.take(a, [2, 0], axis=1) * a.take([0, 0], axis=1), A),
    "take_along_axis": (lambda a: np.take_along_axis(a, np.argsort(A, axis=1), axis=1), A),
    "indexing": (lambda a: a[0, ::-1] * a[[1, 0, 1], [0, 2, 2]] * a[..., -1].sum(), A),
    "mask": (lambda a: a[A > 0] ** 2, A),
    "compress, extract, delete": (lambda a: np.compress([1, 0, 1], a, axis=1) * np.delete(a, 0, axis=1), A),
    "max": (lambda a: a.max(axis=1, keepdims=True) + np.max(a) + np.amax(a, axis=(0, 1)), A),
    "min": (lambda a: a.min(axis=0) + np.amin(a) + np.min(a, axis=1, initial=-0.9).sum(), A),
    "sort": (lambda a: np.sort(a, axis=1) * np.sort(a, axis=None)[:3], A),
    "median": (lambda a: np.median(a, axis=1) + np.median(a), A),
    "unique": (np.unique, A),
    "iteration": (lambda a: sum(row * i for i, row in enumerate(a, 2)), A),
    # sums
    "sum": (lambda a: a.sum() + np.sum(a, axis=0, keepdims=True, initial=2.0), A),
    "sum where": (lambda a: np.sum(a, axis=1, where=A > 0), A),
    "mean": (lambda a: a.mean(axis=1) + np.mean(a), A),
    "var": (lambda a: a.var(axis=1, ddof=1) + np.var(a), A),
    "std": (lambda a: a.std(axis=0) + np.std(a), A),
    "prod": (lambda a: a.prod() + np.prod(a, axis=1, keepdims=True), A),
    "prod with a zero": (lambda a: np.prod(a, axis=1), A * (A != 0.4)),
    "cumsum, cumprod": (lambda a: a.cumsum(axis=1) * np.cumprod(a, axis=1), A),
    "cumprod with a zero": (lambda a: np.cumprod(a, axis=0), A * (A > 0)),
    "diff": (lambda a: np.diff(a, axis=1), A),
    "average": (lambda a, b: np.average(a, axis=1, weights=b), A, P),
    "nansum": (lambda a: np.nansum(a, axis=0), A),
    "nan_to_num": (np.nan_to_num, A),
    # products
    "einsum": (lambda a, b: np.einsum("ij,kj,kl->il", a, b, a), A, B),
    "tensordot": (lambda a, b: np.tensordot(a, b, ((1,), (1,))), A, B),
    "dot, inner, vdot": (lambda a, b: np.dot(a, b.T) + np.inner(a, b) + np.vdot(a, b), A, B),
    "outer, kron": (lambda a, b: np.outer(a, b) + np.kron(a, b).reshape(6, 6), A, B),
    "cross, convolve": (lambda a, b: np.cross(a, b) + np.convolve(a[0], b[0], "same"), A, B),
    # linear algebra and Fourier
    "inv": (np.linalg.inv, S),
    "det": (np.linalg.det, S),
    "slogdet": (lambda a: np.linalg.slogdet(a)[1], S),
    "solve": (lambda a, b: np.linalg.solve(a, b.T), S, B),
    "norm": (lambda a: np.linalg.norm(a) + np.linalg.norm(a, axis=1) + np.linalg.norm(a, 1, axis=1), A),
    "fft": (lambda a: np.abs(np.fft.fft(a, axis=1)) + np.fft.rfft(a, 3).imag[:, 1:], A),
    "fft there and back": (lambda a: np.fft.irfft(np.fft.rfft(a, axis=1) * 2, 3, axis=1), A),
    "complex": (lambda a, b: np.angle((a + 1j * b) ** 2) * np.conjugate(a + 1j * b).real, P, P * B),
    "linspace": (lambda a, b: np.linspace(a, b, 4), A, B),
    # writing
    "setitem": (lambda a, b: written(a * b, lambda out: out.__setitem__((slice(2), slice(3)), a * b)), A, B),
    "setitem by index": (lambda a: written(a, lambda out: out.__setitem__(([0, 2, 1], [1, 1, 3]), a[0])), A),
    "add.at": (lambda a: written(a, lambda out: np.add.at(out, ([0, 0, 1], [1, 1, 2]), a[1])), A),
    "subtract.at": (lambda a: written(a, lambda out: np.subtract.at(out, ([0, 0, 1], [1, 1, 2]), a[1])), A),
    "put_along_axis": (lambda a: written(a, lambda out: put(out, a)), A),
    "copyto, fill_diagonal": (lambda a: written(a, lambda out: copied(out, a)), A),
    "array, full_like": (lambda a: np.array([a[0], a[1], A[0]], like=a) + np.full_like(a[0], 3), A),
    "astype": (lambda a: a.astype(np.float64) * a, A),
}
_SMOOTH = (
    np.sin, np.cos, np.tan, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh, np.exp, np.exp2, np.expm1, np.square,
    np.reciprocal, np.cbrt, np.deg2rad, np.rad2deg, np.radians, np.degrees,
)  # fmt: skip
CASES.update({f.__name__: (f, A) for f in _SMOOTH})
CASES.update({f.__name__: (f, P) for f in (np.log, np.log2, np.log10, np.log1p, np.sqrt)})
CASES.update({f.__name__: (f, U) for f in (np.arcsin, np.arccos, np.arctanh)})
CASES["arccosh"] = (np.arccosh, P + 1)


def differences(function, xs, dots, h=1e-3):
    def at(h):
        return np.asarray(function(*(x + h * d for x, d in zip(xs, dots, strict=True))))

    def central(h):
        return (at(h) - at(-h)) / (2 * h)

    return (64 * central(h / 4) - 20 * central(h / 2) + central(h)) / 45


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("case", CASES)
def test_tangents_are_directional_derivatives(case, rng):
    function, *xs = CASES[case]
    dots = [rng.normal(size=x.shape) for x in xs]
    y = function(*map(Dual, xs, dots))
    assert isinstance(y, Dual)
    np.testing.assert_allclose(y.value, function(*xs), rtol=1e-13)
    assert tangent_of(y).shape == y.shape and tangent_of(y).dtype == y.dtype
    np.testing.assert_allclose(y.tangent, differences(function, xs, dots), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_duals_of_duals_give_second_derivatives(case, rng):
    function, *xs = CASES[case]
    first, second = ([rng.normal(size=x.shape) for x in xs] for _ in range(2))
    y = function(*(Dual(Dual(x, v), Dual(w, 0.0)) for x, v, w in zip(xs, first, second, strict=True)))

    def slope(*xs):
        return tangent_of(function(*map(Dual, xs, second)))

    np.testing.assert_allclose(y.tangent.tangent, differences(slope, xs, first), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(y.value.tangent, differences(function, xs, first), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("which", [0, 1])
def test_one_dual_among_plain_arrays(case, which, rng):
    function, *xs = CASES[case]
    if len(xs) < 2:
        return
    dots = [rng.normal(size=x.shape) if i == which else 0 * x for i, x in enumerate(xs)]
    y = function(*(Dual(x, d) if i == which else x for i, (x, d) in enumerate(zip(xs, dots, strict=True))))
    np.testing.assert_allclose(y.tangent, differences(function, xs, dots), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("astype", "fft", "fft there and back", "complex")])
@pytest.mark.parametrize("dtype", ["float32"])
def test_dtypes_are_kept(case, dtype):
    function, *xs = CASES[case]
    xs = [x.astype(dtype) for x in xs]
    wanted = np.asarray(function(*xs)).dtype
    y = function(*(Dual(x, 1.0) for x in xs))
    assert y.value.dtype == y.tangent.dtype == wanted


@pytest.mark.parametrize("scalar", [2, 2.0, True, np.float32(2), np.float64(2), np.int64(2), np.array(2.0)])
def test_scalars_on_either_side(scalar):
    x = Dual(3.0, 1.0)
    assert ((scalar * x).tangent, (x * scalar).tangent) == (scalar, scalar)
    assert (scalar - x).tangent == -1 and (x - scalar).tangent == 1
    assert isinstance(scalar / x, Dual) and isinstance(scalar**x, Dual)
    assert (np.ones(2) * x).shape == (2,) == (x * np.ones(2)).shape


@pytest.mark.parametrize("function", [
    lambda x: x > 0, lambda x: x > 0, lambda x: x == x, np.sign, np.floor, np.ceil, np.rint, np.round, np.isnan,
    np.isfinite, np.argmax, np.argsort, np.nonzero, np.shape, np.any, lambda x: x.all(), lambda x: x // 1,
    lambda x: x.astype(int), lambda x: x.argmin(axis=1), lambda x: np.zeros_like(x, dtype=int), np.allclose,
    lambda x: np.searchsorted(np.array([0.0, 1.0]), x), lambda x: np.zeros(3, int, like=x), np.count_nonzero,
    lambda x: len(x), lambda x: np.result_type(x, np.float32),
])  # fmt: skip
def test_piecewise_constant_results_are_plain(function):
    args = (A,) if function is np.allclose else ()
    plain, dual = function(A, *args), function(Dual(A, 1.0), *args)
    assert not isinstance(dual, Dual)
    assert np.array_equal(plain, dual)


@pytest.mark.parametrize("function, message", [
    (np.asarray, "cannot become a plain array"),
    (np.array, "cannot become a plain array"),
    (lambda x: np.array([x, x]), "cannot become a plain array"),
    (np.linalg.svd, r"numpy.linalg.svd has no derivative"),
    (lambda x: np.nextafter(x, 1.0), "np.nextafter has no derivative"),
    (lambda x: np.minimum.at(np.zeros_like(x), 0, x), r"np.minimum.at has no derivative"),
    (lambda x: np.add.at(np.zeros((2, 3)), 0, x), r"np.add.at cannot add a dual array into a plain one"),
    (lambda x: np.add(x, 1, out=np.zeros((2, 3))), "cannot write a dual array into a plain one"),
    (lambda x: np.zeros((2, 3)).__iadd__(x), "cannot write a dual array into a plain one"),
    (lambda x: np.zeros((2, 3)).__setitem__(0, x[0]), "cannot become a plain array"),
    (lambda x: np.copyto(np.zeros((2, 3)), x), "cannot write a dual array into a plain one"),
    (lambda x: np.put_along_axis(np.zeros((2, 3)), np.zeros((2, 3), int), x, 1), "cannot write a dual array"),
    (lambda x: np.pad(x, 1, mode="maximum"), r"np.pad\(mode='maximum'\)"),
    (lambda x: np.add(x, 1, where=A > 0), "needs out="),
    (lambda x: math.sin(x[0, 0]), "would lose its tangent"),
    (lambda x: float(x[0, 0]), "would lose its tangent"),
    (lambda x: np.ldexp(x, 2) + np.interp(x, [0, 1], [0, 1]), "np.interp"),
    (lambda x: x.__setitem__(0, Dual(Dual(1.0, 1.0), 1.0)), "lower level"),
])  # fmt: skip
def test_a_tangent_is_never_lost_unseen(function, message):
    with pytest.raises(NotDifferentiableError, match=message):
        function(Dual(A, 1.0))


def test_writing_a_dual_scalar_into_a_plain_array_is_an_error():
    out = np.zeros(3)
    with pytest.raises((NotDifferentiableError, ValueError, TypeError), match=r"tangent|sequence"):
        out[0] = Dual(1.0, 1.0)


def test_ties_and_kinks():
    x = Dual(np.array([0.0, -0.0]), 1.0)
    assert abs(x).tangent.tolist() == [0, 0]
    a, b = Dual(1.0, 10.0), Dual(1.0, 20.0)
    assert np.maximum(a, b).tangent == 10 and np.minimum(a, b).tangent == 10
    assert np.max(np.stack([a, b])).tangent == 10 and np.sort(np.stack([a, b])).tangent.tolist() == [10, 20]
    assert np.clip(Dual(1.0, 1.0), 1.0, 2.0).tangent == 1
    assert np.hypot(Dual(0.0, 1.0), 0.0).tangent == 0
    assert np.std(Dual(np.ones(3), np.arange(3.0))).tangent == 0
    assert (Dual(0.0, 1.0) ** Dual(2.0, 1.0)).tangent == 0


def test_extremes_are_silent_and_finite():
    x = Dual(np.array([1e4, -1e4, 0.0]), 1.0)
    for y in (np.tanh(x), np.logaddexp(x, 0), np.arctan(x), np.logaddexp.reduce(x), np.arcsinh(x)):
        assert np.isfinite(y.tangent).all()


def test_in_place_operators_write_through_views():
    x = Dual(np.ones(3), np.arange(3.0))
    out = np.zeros((2, 3), like=x)
    view = out[1]
    view += x * x
    view *= 3
    assert out.value.tolist() == [[0, 0, 0], [3, 3, 3]] and out.tangent.tolist() == [[0, 0, 0], [0, 6, 12]]
    s = Dual(2.0, 1.0)
    t = s
    s *= s
    assert (s.tangent, t.tangent) == (4, 1)


def test_results_do_not_share_memory_with_arguments():
    x = Dual(np.ones(3), np.ones(3))
    for y in (+x, x + 0, x * 1, np.clip(x, None, None), x.copy(), x.flatten(), x.astype(float)):
        y[...] = 7.0
    assert x.value.tolist() == x.tangent.tolist() == [1, 1, 1]


def test_levels_keep_perturbations_apart():
    # d/dx (x * d/dy (x + y)) = 1, not 2
    def inner(x):
        y = Dual(1.0, 1.0, next_level(x))
        return tangent_of(x + y, y.level)

    x = Dual(3.0, 1.0)
    assert (x * inner(x)).tangent == 1
    y = Dual(2.0, 1.0, next_level(x))
    assert (x * y).tangent.tangent == 1 and (x * x).tangent == 6
    assert tangent_of(x * x, y.level).value == 0


def test_elementary():
    erf = elementary(lambda x, y: 2 / np.sqrt(np.pi) * np.exp(-x * x))(np.vectorize(math.erf))
    x = Dual(Dual(A, 1.0), 1.0)
    np.testing.assert_allclose(erf(x).tangent.value, 2 / math.sqrt(math.pi) * np.exp(-A * A), rtol=1e-14)
    np.testing.assert_allclose(erf(x).tangent.tangent, -4 * A / math.sqrt(math.pi) * np.exp(-A * A), rtol=1e-14)
    assert erf(A).shape == A.shape

    @elementary(lambda x, n, y: n, None)
    def times(x, n):
        """Product."""
        return x * n

    assert times.__doc__ == "Product." and times.__name__ == "times"
    assert times(Dual(2.0, 1.0), 3).tangent == 3
    with pytest.raises(NotDifferentiableError, match="times has no derivative for its argument number 2"):
        times(2.0, Dual(3.0, 1.0))


def test_as_an_array():
    x = Dual(A.astype("float32"), 1)
    assert (x.shape, x.ndim, x.size, x.dtype, x.itemsize, x.nbytes) == ((2, 3), 2, 6, np.float32, 4, 24)
    assert x.T.shape == (3, 2) == x.mT.shape and len(x) == 2
    assert Dual(3, 1).value.dtype == np.float64
    assert bool(Dual(1.0, 0.0)) and int(Dual(2.7, 1.0)) == 2
    assert repr(Dual(np.array([1.0, 2.0]), 1)) == "Dual([1., 2.], tangent=[1., 1.])"
    with pytest.raises(ValueError, match="broadcast"):
        Dual(np.zeros(2), np.zeros(3))


def test_empty_arrays():
    x = Dual(np.zeros((0, 3)), 1.0)
    assert np.sum(x, axis=0).tangent.tolist() == [0, 0, 0]
    assert np.prod(x, axis=0).value.tolist() == [1, 1, 1]
    assert np.max(x, axis=1).shape == (0,) and np.max(x, axis=0, initial=2.0).value.tolist() == [2, 2, 2]
    assert np.concatenate([x, x]).shape == (0, 3) == (x * 2 + x).shape
