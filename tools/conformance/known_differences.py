"""Where ONNX Runtime is known to deviate from the text of the specification, or the text leaves the answer open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.old_models import Subject, Trial

Condition = Callable[[Trial, str], bool]
"""Of what was run, and what differs."""


@dataclass(frozen=True)
class Known:
    """One deviation: at which schema versions of which ops, under what condition, and why."""

    ops: tuple[str, ...]
    versions: range
    when: Condition
    reason: str


def reason_for(subject: Subject, trial: Trial, difference: str) -> str:
    """Why a difference is ONNX Runtime's; empty when nothing is known."""
    for k in KNOWN:
        here = subject.schema.name in k.ops and subject.schema.since_version in k.versions
        if here and k.when(trial, difference):
            return k.reason
    return ""


def _says(*texts: str) -> Condition:
    return lambda trial, difference: all(t in difference for t in texts)


def _takes(index: int, *dtypes: str) -> Condition:
    return lambda trial, difference: _input(trial, index) is not None and _input(trial, index).dtype.name in dtypes


def _has(name: str, *values: Any) -> Condition:
    return lambda trial, difference: trial.attributes.get(name) in values


def _empty(index: int) -> Condition:
    return lambda trial, difference: _input(trial, index) is not None and _input(trial, index).size == 0


def _all(*conditions: Condition) -> Condition:
    return lambda trial, difference: all(c(trial, difference) for c in conditions)


def _input(trial: Trial, index: int) -> Any:
    return trial.inputs[index] if index < len(trial.inputs) else None


def _refuses(*texts: str) -> Condition:
    return _says("graphrt refuses", *texts)


def _odd_scales(trial: Trial, difference: str) -> bool:
    """Whether a scaled size is no whole number."""
    scales = _input(trial, 2)
    sizes = np.array(trial.inputs[0].shape)[list(trial.attributes.get("axes", range(trial.inputs[0].ndim)))]
    return scales is not None and not np.allclose(sizes * scales, np.rint(sizes * scales), atol=1e-4)


def _has_empty_sequence(trial: Trial, difference: str) -> bool:
    lengths = _input(trial, 4)
    return 0 in trial.inputs[0].shape or (lengths is not None and 0 in lengths)


def _two_classes(trial: Trial, difference: str) -> bool:
    labels = trial.attributes.get("classlabels_strings") or trial.attributes.get("classlabels_int64s") or ()
    return len(labels) == 2


_ALWAYS = range(1, 10**6)
_POOLS = ("MaxPool", "AveragePool", "LpPool")
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin",
)  # fmt: skip
_WINDOWS = ("BlackmanWindow", "HammingWindow", "HannWindow")

KNOWN: tuple[Known, ...] = (
    # ---- the specification says otherwise
    Known(("BatchNormalization",), range(7, 14), _says("output 4"),
          "saved_var is the variance; ONNX Runtime gives 1 / sqrt(variance + epsilon)"),
    Known(("ConvTranspose",), _ALWAYS, _all(_has("auto_pad", "SAME_UPPER", "SAME_LOWER"), _says("shape")),
          "SAME: the output has input * stride positions; ONNX Runtime gives fewer where the kernel is shorter than "
          "the stride"),
    Known(("Gather",), _ALWAYS, _all(_takes(0, "object"), _says("not ''")),
          "ONNX Runtime copies only the first string of each slice"),
    Known(("MatMulInteger",), _ALWAYS, _empty(0), "a sum of nothing is 0; ONNX Runtime leaves memory as it was"),
    Known(("MaxUnpool",), _ALWAYS, lambda trial, difference: len(trial.inputs) > 2,
          "indices count in the shape that kernel and strides give, as in ONNX's own test; ONNX Runtime counts in "
          "output_shape"),
    Known(("MeanVarianceNormalization",), _ALWAYS, _says("not np.float32(nan)"),
          "the function's body adds 1e-9 to the deviation; ONNX Runtime divides by 0"),
    Known(("NonZero",), _ALWAYS, _says("shape [0, "), "a scalar gives [0, n], as the specification says outright"),
    Known(("OneHot",), range(9, 11), lambda trial, difference: bool(np.any(trial.inputs[0] < 0)),
          "before opset 11 a negative index gives off values only; ONNX Runtime counts it from the end"),
    Known(("ReduceLogSumExp",), _ALWAYS, _takes(0, "int32", "int64", "uint32", "uint64"),
          "ONNX Runtime cuts the sum's parts to integers, not the result"),
    Known(("ReduceLogSumExp",), _ALWAYS, _all(_takes(0, "float16", "bfloat16"), _says("inf")),
          "ONNX Runtime overflows on the way"),
    Known(("Resize",), _ALWAYS, _all(_has("coordinate_transformation_mode", "align_corners"), _odd_scales),
          "align_corners takes scale * size unrounded, as ONNX's own test has it; ONNX Runtime rounds it"),
    Known(("Squeeze",), range(13, 100), lambda trial, difference: np.size(_input(trial, 1)) == 0,
          "no axes are given, which is not an absent input; ONNX Runtime removes every 1"),
    Known(("LabelEncoder",), range(2, 4), _takes(0, "float32", "float64"), "NaN keys match; not in ONNX Runtime"),
    Known(("LinearClassifier",), _ALWAYS, _has("post_transform", "PROBIT"),
          "ONNX Runtime writes one of two scores to a wrong place"),
    Known(("TreeEnsembleRegressor",), _ALWAYS, lambda trial, difference: bool(trial.attributes.get("base_values")),
          "ONNX Runtime leaves out the base value of a target that no leaf votes for"),
    Known(("TreeEnsemble",), _ALWAYS, _all(_has("n_targets", 2), _has("post_transform", 1, 2)),
          "SOFTMAX or LOGISTIC of both sums; ONNX Runtime takes two targets for a class and its opposite"),
    Known(("LpPool",), _ALWAYS, _all(_has("auto_pad", "SAME_UPPER", "SAME_LOWER"), _says("shape")),
          "SAME: the output has input / stride positions; ONNX Runtime forgets the dilation"),
    Known(("GRU", "LSTM"), _ALWAYS, _all(_empty(0), _says("output")), "no step: ONNX Runtime leaves memory as it was"),
    Known(("StringSplit",), _ALWAYS, _all(_has("delimiter", "-"), lambda trial, difference: "" in trial.inputs[0]),
          "an empty string has one part, as in NumPy and the reference; none in ONNX Runtime"),
    # ---- the specification leaves it open
    Known(("Attention",), _ALWAYS, _says("output 3", "(-inf) not", "e+38"),
          "a masked score is minus infinity; the lowest finite number in ONNX Runtime"),
    Known(("LinearRegressor",), _ALWAYS, _all(_has("post_transform", "PROBIT"), _says("nan")),
          "the probit of what is no probability"),
    Known(("GRU", "LSTM", "RNN"), _ALWAYS,
          lambda trial, difference: bool({"Affine", "ScaledTanh"} & {*trial.attributes.get("activations", ())}),
          "activations without a default for alpha and beta"),
    Known(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), _ALWAYS, _empty(0), "the mean of nothing"),
    Known(("StringNormalizer",), _ALWAYS, _all(_has("case_change_action", "UPPER"), _says("'SS-")),
          "the upper case of one letter may be two"),
    Known(("Cast", "CastLike"), _ALWAYS, _says("not '"),
          "numbers as text: the shortest that reads back, True and False; ONNX Runtime: eight digits, 1 and 0"),
    Known(("Cast",), _ALWAYS, _all(_takes(0, "object"), _has("to", 9)), "text as bool is undefined"),
    Known(("Dropout",), range(7, 12), _says("output 1"),
          "the mask in inference: all True, as opset 12 says; all False in ONNX Runtime"),
    Known(("DynamicQuantizeLinear",), _ALWAYS, lambda trial, difference: not np.any(trial.inputs[0]),
          "all zeros: the formula divides 0 by 0, every scale gives the same values"),
    Known(("LabelEncoder",), range(2, 4), _has("keys_int64s", (1, 2, 1)),
          "a repeated key: the last counts, as version 4 says; the first in ONNX Runtime"),
    Known(_REDUCTIONS, _ALWAYS, _empty(0), "nothing to reduce: undefined"),
    Known(("GRU", "LSTM", "RNN"), _ALWAYS, _all(_has_empty_sequence, _says("not np.float", "(0.0)")),
          "a sequence of length 0 ends in its initial state; in zeros in ONNX Runtime"),
    Known(("Resize", "Upsample"), _ALWAYS,
          lambda trial, difference: trial.inputs[0].dtype.kind in "iu" and trial.attributes.get("mode") != "nearest",
          "integers are rounded, as in ONNX's reference; ONNX Runtime cuts them off"),
    Known(("TopK",), _ALWAYS, _has("sorted", 0), "the order is undefined"),
    Known(("TreeEnsembleClassifier",), _ALWAYS, _two_classes,
          "of two classes the one with the larger sum; ONNX Runtime asks if one class's sum is above 0 or 0.5"),
    Known(_WINDOWS, _ALWAYS, _says("not np.float", "nan"), "one point: 1, as in NumPy; the formula divides 0 by 0"),
    # ---- not a model that the specification allows
    Known(("ArgMax", "ArgMin", *_REDUCTIONS), _ALWAYS, _refuses("out of range for a tensor"), "no such axis"),
    Known(("Compress",), _ALWAYS, _refuses("condition of shape"), "the condition is longer than the axis"),
    Known(("DFT",), range(20, 100), _all(_has("inverse", 1), _has("onesided", 1)),
          "more frequencies than dft_length // 2 + 1, or the first with an imaginary part"),
    Known(("GatherND",), _ALWAYS, _refuses("batch dimensions"), "batch dimensions differ"),
    Known(("LinearRegressor",), _ALWAYS, _refuses("the coefficients are for"), "coefficients for other columns"),
    Known(("OneHotEncoder",), _ALWAYS, _refuses("is needed"), "no categories of the input's type"),
    Known(("ReverseSequence",), _ALWAYS, _refuses("should be 0 and 1"), "another axis than 0 and 1"),
    Known(("RotaryEmbedding",), _ALWAYS, _refuses("the caches turn"), "caches of another size"),
    Known(("Imputer",), _ALWAYS, _refuses("new values"), "neither one value nor one per column"),
    Known(("LinearClassifier",), _ALWAYS, _refuses("the coefficients are for"), "coefficients for other columns"),
    Known(("MaxUnpool",), _ALWAYS, _refuses("out of bounds"), "an index beyond the output"),
    Known(("MeanVarianceNormalization",), _ALWAYS, _refuses("out of range"), "no such axis"),
    Known(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), _ALWAYS, _refuses("is not one of the classes"),
          "a label that is no class; ONNX Runtime reads what is beside"),
    Known(_POOLS, _ALWAYS, _refuses("does not fit into"), "the window is larger than the image: nothing comes out"),
    Known(("Reshape",), _ALWAYS, _refuses("no -1 beside an explicit 0"), "0 and -1 together, with allowzero"),
    Known(("Resize",), _ALWAYS, _refuses("needs a roi"), "tf_crop_and_resize without a roi"),
    Known(("RoiAlign",), _ALWAYS, _has("output_height", 0), "an output of height 0"),
    Known(("RoiAlign",), _ALWAYS, _has("output_width", 0), "an output of width 0"),
    Known(("Split",), _ALWAYS, _refuses("num_outputs"), "num_outputs is not the number of outputs"),
    Known(("Squeeze",), _ALWAYS, _refuses("twice"), "an axis named twice"),
    Known(("STFT",), _ALWAYS, _refuses("one-sided"), "a complex signal has no one-sided spectrum"),
    Known(("TfIdfVectorizer",), _ALWAYS, _refuses("pool_int64s and pool_strings"), "no pool"),
)  # fmt: skip
