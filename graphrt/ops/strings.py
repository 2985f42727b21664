"""Strings: joined, split, normalized and matched, one by one. Tensors of strings are object arrays of str."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._regex import compiled
from graphrt.types import TensorType


def _strings(values: Sequence[str], shape: tuple[int, ...]) -> Array:
    """An object array of strings; strings are never taken apart into characters."""
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)


def _require_strings(x: TensorType, name: str = "x") -> TensorType:
    if x.dtype not in (None, "string"):
        raise ValueError(f"{name} is {x}; it should be a tensor of strings")
    return x


def _words(rng: np.random.Generator, *shape: int) -> Array:
    drawn = rng.choice(["a", "Bc", "", "d e", "bc", " f  g ", "ß-é"], shape)
    return _strings([str(w) for w in drawn.ravel()], shape)


# ---- StringConcat ------------------------------------------------------------------------------------------


@op("StringConcat", version=20, elementwise=True, outputs="z", nondiff=True)
def string_concat(x: Array, y: Array) -> Array:
    """Each string of x followed by that of y.  x, y: string [...], broadcast -> z: string. ONNX operator spec."""
    return np.asarray(x + y, object)


@string_concat.examples
def _(rng):
    yield (_words(rng, 2, 3), _words(rng, 3)), {}
    yield (_words(rng), _words(rng)), {}
    yield (_words(rng, 0, 3), _words(rng)), {}


# ---- StringSplit -------------------------------------------------------------------------------------------


@op("StringSplit", version=20, outputs=("y", "z"), nondiff=True)
def string_split(x: Array, *, delimiter: str | None = None, maxsplit: int | None = None) -> tuple[Array, Array]:
    """Cuts strings at a delimiter.  x: string [...] -> y: string [..., k], the parts, padded with "" to the largest
    number k of them; z: int64 [...], how many each has.

    Without ``delimiter`` (or with "") at runs of whitespace, none at either end. At most ``maxsplit`` cuts from
    the left; the rest of the string is the last part. Source: ONNX operator spec.
    """
    limit = -1 if maxsplit is None else maxsplit
    parts = [s.split(delimiter, limit) if delimiter else s.strip().split(None, limit) for s in x.ravel()]
    counts = np.array([len(p) for p in parts], np.int64)
    k = int(np.max(counts, initial=0))
    padded = [s for p in parts for s in (*p, *("",) * (k - len(p)))]
    return _strings(padded, (*x.shape, k)), counts.reshape(x.shape)


@string_split.infer
def _(x):
    shape = _require_strings(x).shape
    return TensorType("string", None if shape is None else (*shape, None)), TensorType("int64", shape)


@string_split.examples
def _(rng):
    for shape in ((2, 3), (), (0, 2)):
        yield (_words(rng, *shape),), {}
        yield (_words(rng, *shape),), {"delimiter": "-", "maxsplit": 1}
    yield (_words(rng, 4),), {"delimiter": ""}


# ---- StringNormalizer --------------------------------------------------------------------------------------

_CASES: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}


@op("StringNormalizer", version=10, nondiff=True)
def string_normalizer(
    x: Array, *, case_change_action: str = "NONE", is_case_sensitive: int = 0, locale: str = "",
    stopwords: tuple[str, ...] | None = None,
) -> Array:  # fmt: skip
    """Drops stop words and changes the case of the others.  x: string [C] or [1, C] -> y: string [k] or [1, k], what
    remains, in order; one "" where nothing does.

    ``case_change_action``: "LOWER", "UPPER" or "NONE". Unless ``is_case_sensitive``, stop words match in any case.
    Case follows Unicode, whatever ``locale`` says. Source: ONNX operator spec.
    """
    change = _CASES.get(case_change_action)
    if change is None:
        raise ValueError(f"case_change_action is {case_change_action!r}; it should be one of {', '.join(_CASES)}")
    if x.ndim not in (1, 2) or x.shape[: x.ndim - 1] not in ((), (1,)):
        raise ValueError(f"x has shape {list(x.shape)}; it should be [C] or [1, C]")
    key = str if is_case_sensitive else str.lower
    dropped = {key(w) for w in stopwords or ()}
    kept = [change(s) for s in x.ravel() if key(s) not in dropped] or [""]
    return _strings(kept, (*x.shape[:-1], len(kept)))


@string_normalizer.infer
def _(x, stopwords):
    shape = _require_strings(x).shape
    if shape is None:
        return TensorType("string")
    if len(shape) not in (1, 2):
        raise ValueError(f"x is {x}; it should be [C] or [1, C]")
    last = shape[-1] if not stopwords and isinstance(shape[-1], int) and shape[-1] else None
    return TensorType("string", (*((1,) * (len(shape) - 1)), last))


@string_normalizer.examples
def _(rng):
    for shape in ((5,), (1, 5), (0,), (1, 0)):
        yield (_words(rng, *shape),), {}
        yield (_words(rng, *shape),), {"case_change_action": "UPPER", "stopwords": ("BC", "a"), "locale": "en_US"}
    yield (_words(rng, 5),), {"case_change_action": "LOWER", "stopwords": ("BC", "a"), "is_case_sensitive": 1}


# ---- RegexFullMatch ----------------------------------------------------------------------------------------


@op("RegexFullMatch", version=20, nondiff=True)
def regex_full_match(x: Array, *, pattern: str = "") -> Array:
    r"""Whether each whole string matches a regular expression.  x: string [...] -> y: bool [...].

    ``pattern`` is in RE2's syntax and takes linear time: no back-references, no look-around; ``\d \w \s \b`` are
    ASCII; of ``\p{...}`` general categories only; ``\C`` is refused. Source: ONNX operator spec.
    """
    regex = compiled(pattern)
    found = {s: regex.fullmatch(s) for s in set(x.ravel())}
    return np.array([found[s] for s in x.ravel()], bool).reshape(x.shape)


@regex_full_match.infer
def _(x):
    return TensorType("bool", _require_strings(x).shape)


@regex_full_match.examples
def _(rng):
    for shape in ((2, 3), (), (0, 2)):
        yield (_words(rng, *shape),), {"pattern": r"(?i)[a-c]+|.*\s.*"}
    yield (_words(rng, 4),), {}


OPS = (string_concat, string_split, string_normalizer, regex_full_match)
