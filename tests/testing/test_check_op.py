"""The checker is checked: every way to break the contract that we could think of must be caught, by name."""

import random
import warnings

import numpy as np
import pytest

from graphrt.op import Op, op, unbroadcast
from graphrt.testing import OpCheckError, check_op, dual_fallbacks
from graphrt.types import TensorType


def square(value=lambda x: x * x, derivative=lambda x: 2 * x, **options):
    @op("Square", domain="test", elementwise=True, **options)
    def square(x):
        return value(x)

    @square.derivative("x")
    def _(x):
        return derivative(x)

    return square


def product(value=np.multiply, vjp_a=None, jvp_a=None, infer=None, linear=("a", "b")):
    """A product a*b with b broadcast, by explicit rules."""

    @op("Product", domain="test", linear=linear)
    def product(a, b):
        return value(a, b)

    @product.vjp("a")
    def _(ct, b, a_like):
        return unbroadcast(ct * b, a_like) if vjp_a is None else vjp_a(ct, b, a_like)

    @product.vjp("b")
    def _(ct, a, b_like):
        return unbroadcast(ct * a, b_like)

    if jvp_a is not None:
        product.jvp("a")(jvp_a)

        @product.jvp("b")
        def _(b_dot, a):
            return a * b_dot

    @product.infer
    def _(a, b):
        if infer is not None:
            return infer(a, b)
        return TensorType(a.dtype, a.shape)

    @product.examples
    def _(rng):
        yield (rng.normal(size=(2, 3)), rng.normal(size=3)), {}
        yield (rng.normal(size=()), rng.normal(size=())), {}
        yield (rng.normal(size=(0, 3)), rng.normal(size=(1, 3))), {}

    return product


def test_good_ops_pass():
    check_op(square())
    check_op(product())


def broken(made: Op, match: str) -> None:
    with pytest.raises(OpCheckError, match=match) as caught:
        check_op(made)
    assert f"op test::{made.op_type} (version {made.version}" in str(caught.value)
    assert __name__ in str(caught.value)


@pytest.mark.parametrize("factor", [1.0005, 0.9995, -1.0, 0.0])
def test_a_derivative_wrong_by_a_little_is_caught(factor):
    broken(square(derivative=lambda x: factor * 2 * x), "JVP for x is off by .* from finite differences")


def test_a_derivative_wrong_in_some_elements_is_caught():
    broken(square(derivative=lambda x: np.where(x > 1, 1.0005, 1) * 2 * x), "off by")


@pytest.mark.parametrize("factor", [1.0005, 0.9995, -1.0, 0.0])
def test_a_vjp_wrong_by_a_little_is_caught(factor):
    broken(product(vjp_a=lambda ct, b, a_like: unbroadcast(ct * b * factor, a_like)), "VJP and JVP for a disagree")


@pytest.mark.parametrize("factor", [1.0005, 0.9995])
def test_a_jvp_wrong_by_a_little_is_caught(factor):
    def jvp_a(a_dot, b):
        return a_dot * b * factor

    broken(product(jvp_a=jvp_a), "disagree|off by")


def test_vjp_and_jvp_wrong_together_are_caught():
    def jvp_a(a_dot, b):
        return a_dot * b * 1.0005

    broken(product(vjp_a=lambda ct, b, a_like: unbroadcast(ct * b * 1.0005, a_like), jvp_a=jvp_a), "off by")


def test_linear_of_what_is_not_linear_is_caught():
    broken(product(value=lambda a, b: a * b + 1), "off by|disagree")


def test_a_wrong_output_dtype_is_caught():
    broken(square(value=lambda x: x.astype(np.float64) ** 2), "is float64 at float32 inputs; expected float32")
    broken(square(value=lambda x: x * x * np.ones(1)), "is float64 at float32 inputs; expected float32")
    broken(square(value=lambda x: (x * x).astype(np.promote_types(x.dtype, "float32"))), "is float32 at float16 inputs")


def test_a_wrong_cotangent_dtype_is_caught():
    broken(square(derivative=lambda x: 2 * x.astype(np.float64)), r"is float64\[2, 3\]; it belongs to float32\[2, 3\]")


def test_a_wrong_value_at_float32_is_caught():
    broken(square(value=lambda x: x * x * (1 if x.dtype == np.float64 else 2)), "at float32 differs by")


def test_a_mutated_input_is_caught():
    def value(x):
        x *= 1.5
        return x * x

    broken(square(value=value), "changes its input x")


def test_a_mutated_argument_of_a_rule_is_caught():
    def vjp_a(ct, b, a_like):
        ct *= 1
        ct += 1
        return unbroadcast((ct - 1) * b, a_like)

    broken(product(vjp_a=vjp_a), "changes one of its arguments|raises ValueError: .*read-only")


def test_a_missing_unbroadcast_is_caught():
    @op("Scale", domain="test", linear=("a", "b"))
    def scale(a, b):
        return a * b

    scale.vjp("a")(lambda ct, b: ct * b)
    scale.vjp("b")(lambda ct, a: ct * a)
    scale.examples(lambda rng: [((rng.normal(size=(2, 3)), rng.normal(size=3)), {})])
    broken(scale, r"cotangent of b is float64\[2, 3\]; it belongs to float64\[3\]")


def test_a_wrong_shape_from_a_jvp_is_caught():
    def jvp_a(a_dot, b):
        return np.sum(a_dot * b, keepdims=True)

    broken(product(jvp_a=jvp_a), "tangent of output 0 is")


@pytest.mark.parametrize(
    "infer",
    [
        lambda a, b: TensorType(a.dtype, b.shape),
        lambda a, b: TensorType("float32", a.shape),
        lambda a, b: TensorType(a.dtype, a.shape and tuple(d if isinstance(d, int) else 7 for d in a.shape)),
        lambda a, b: TensorType(a.dtype, a.shape and (*a.shape[:-1], *b.shape[-1:])),
        lambda a, b: TensorType(a.dtype, tuple(d for d in a.shape)),
        lambda a, b: (TensorType(), TensorType()),
    ],
    ids=["shape", "dtype", "guess", "fails without rank", "needs a rank", "count"],
)
def test_a_wrong_infer_is_caught(infer):
    broken(product(infer=infer), "infer with")


@pytest.mark.parametrize("where", ["value", "derivative"])
def test_warnings_are_caught(where):
    def warn(x):
        warnings.warn("careless", stacklevel=1)
        return x * x if where == "value" else 2 * x

    broken(square(**{where: warn}), "warns UserWarning: careless")


def test_overflow_at_extremes_is_caught():
    @op("Softplus", domain="test", elementwise=True)
    def softplus(x):
        return np.log(1 + np.exp(x))

    softplus.derivative("x")(lambda x: np.exp(x) / (1 + np.exp(x)))
    broken(softplus, "warns RuntimeWarning: overflow")


def test_a_derivative_that_is_nan_at_extremes_is_caught():
    @op("Softplus", domain="test", elementwise=True)
    def softplus(x):
        return np.logaddexp(x, 0).astype(x.dtype)

    @softplus.derivative("x")
    def _(x):
        with np.errstate(all="ignore"):
            return np.exp(x) / (1 + np.exp(x))

    broken(softplus, "NaN")


def test_a_nan_at_a_kink_is_caught():
    def quotient(x):
        with np.errstate(all="ignore"):
            return x / np.abs(x)

    broken(square(value=np.abs, derivative=quotient, kinks=(0.0,)), "is NaN")
    check_op(square(value=np.abs, derivative=np.sign, kinks=(0.0,)))


@pytest.mark.parametrize("draw", [np.random.rand, random.random], ids=["numpy", "python"])
def test_global_random_state_is_caught(draw):
    broken(square(value=lambda x: x * x + 0 * draw()), "uses global random state")


def test_an_unrepeatable_value_is_caught():
    fresh = np.random.default_rng(0)
    broken(square(value=lambda x: x * x + fresh.random()), "differs between two runs")


def test_a_missing_rule_is_caught():
    @op("Twice", domain="test", elementwise=True)
    def twice(x):
        return x + x

    broken(twice, "input x is float but has neither a derivative rule nor nondiff=")


def test_missing_examples_are_caught():
    @op("Twice", domain="test")
    def twice(x):
        return x + x

    broken(twice, "has no examples")


def test_a_rule_that_dual_arrays_cannot_follow_is_caught():
    broken(square(derivative=lambda x: np.asarray(x) * 2), "on dual arrays raises NotDifferentiableError")
    broken(square(derivative=lambda x: getattr(x, "value", x) * 2), "on dual arrays is off by")


def test_a_value_that_depends_on_layout_is_caught():
    broken(square(value=lambda x: np.lib.stride_tricks.as_strided(x, x.shape) ** 2
                  if x.flags.c_contiguous else 0 * x), "on (strided|negative strides|transposed) inputs")  # fmt: skip


def test_a_wrong_output_count_and_kind_are_caught():
    broken(square(value=lambda x: [x * x]), "raises|is a list|shape")
    broken(square(value=lambda x: float(np.sum(x))), "is a float, not an array")


def split_rules(vjp):
    @op("SumAndDouble", domain="test", outputs=("y", "z"))
    def sum_and_double(x):
        return np.sum(x, axis=0), 2 * x

    sum_and_double.vjp("x")(vjp)

    @sum_and_double.jvp("x")
    def _(x_dot):
        return np.sum(x_dot, axis=0), 2 * x_dot

    sum_and_double.examples(lambda rng: [((rng.normal(size=(2, 3)),), {})])
    return sum_and_double


def test_a_rule_that_forgets_absent_cotangents_is_caught():
    def forgets(ct_y, ct_z, x_like):
        return np.broadcast_to(ct_y, x_like.shape) + 2 * ct_z

    def minds(ct_y, ct_z, x_like):
        y = 0 if ct_y is None else np.broadcast_to(ct_y, x_like.shape)
        return y if ct_z is None else y + 2 * ct_z

    check_op(split_rules(minds))
    broken(split_rules(forgets), "the VJP for x raises")


@pytest.mark.parametrize("factor", [1, 1.0005])
def test_variadic_inputs_and_outputs(factor):
    @op("Twin", domain="test", outputs="*ys")
    def twin(*xs):
        return tuple(x * x for x in xs)

    @twin.vjp("xs")
    def _(cts, xs):
        return tuple(None if c is None else factor * 2 * c * x for c, x in zip(cts, xs, strict=True))

    twin.examples(lambda rng: [((rng.normal(size=2), rng.normal(size=3)), {"n_outputs": 2})])
    if factor == 1:
        check_op(twin)
        assert dual_fallbacks(twin) == ("xs",)
    else:
        broken(twin, "disagree|off by")


def test_a_random_op_with_its_generator_passes():
    @op("Noise", domain="test", linear="x")
    def noise(x, *, rng):
        return x * rng.uniform(size=x.shape).astype(x.dtype)

    @noise.vjp("x")
    def _(ct, rng):
        return ct * rng.uniform(size=ct.shape).astype(ct.dtype)

    noise.examples(lambda rng: [((rng.normal(size=(2, 3)),), {})])
    check_op(noise)


def test_the_step_of_differences_adapts_to_poles_and_flat_places():
    @op("Steep", domain="test", elementwise=True, ranges={"x": (1e-4, 2e-3)})
    def steep(x):
        return np.log(x)

    steep.derivative("x")(lambda x: 1 / x)
    check_op(steep)


def test_several_outputs_are_a_tuple_and_one_output_is_none():
    @op("Pair", domain="test", outputs=("a", "b"), nondiff=True)
    def stacked(x):
        return np.stack([x, x])

    @op("Single", domain="test", nondiff=True)
    def wrapped(x):
        return (x,)

    for made in (stacked, wrapped):
        made.examples(lambda rng: [((rng.normal(size=(2, 2)),), {})])
    broken(stacked, "returns one ndarray for the outputs a, b; not a tuple")
    broken(wrapped, "returns a tuple and declares one output, y")
