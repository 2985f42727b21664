"""From a caller's batches to a training graph's inputs: which array goes where, and as what element type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphrt.errors import InputError
from graphrt.ir import Graph, Value
from graphrt.op import Array
from graphrt.runtime.feeds import PlainTypes, have_types, plain_types
from graphrt.train.data import Dataset, as_dataset
from graphrt.types import TensorType, numpy_dtype


class Feeder:
    """Renames and converts batches.

    A model's inputs go by their own names. What is left over in a batch is the target, unless ``target`` names it.
    Integers become floats and floats other floats where the graph wants that; floats never become integers.

    Args:
        graph: with the inputs of ``model`` and the target's.
        model: the model alone.
        target: the input of ``graph`` that takes the targets, or None when the model itself takes all.
        key: name of the targets in the caller's batches, or None to tell them from what is left over.
        float_dtype: what float targets become where the graph does not say.
    """

    def __init__(self, graph: Graph, model: Graph, target: str | None, key: str | None, float_dtype: str | None):
        inputs = {v.name: v for v in graph.inputs}
        self.target, self.key = target, key
        self._model = {n: inputs[n] for n in model.input_names}
        self._required = [n for n in model.input_names if n not in model.initializers]
        self._targets = inputs.get(target) if target else None
        self._float = numpy_dtype(float_dtype) if float_dtype else None
        self._latest: tuple[PlainTypes, dict[str, str]] = {}, {}  # of a batch taken as it was, and what was renamed

    def arrays(self, batch: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays to run the graph with.

        Raises:
            InputError: an array is missing, left over, or of a kind that does not fit.
        """
        types, names = self._latest
        if names and have_types(batch, types):
            return {names[key]: x for key, x in batch.items()}
        fed = self._checked(batch)
        name_of = {id(x): name for name, x in fed.items()}
        if len(name_of) == len(batch) and all(id(x) in name_of for x in batch.values()):
            self._latest = plain_types(batch), {key: name_of[id(x)] for key, x in batch.items()}
        return fed

    def _checked(self, batch: Mapping[str, Any]) -> dict[str, Array]:
        fed: dict[str, Array] = {}
        for name in self._required:
            if name not in batch:
                raise InputError(f"the batch has no array {name!r} for the model's input; it has: {_listed(batch)}")
        for name, value in self._model.items():
            if name in batch:
                fed[name] = _converted(value, batch[name], None)
        if self._targets is not None:
            fed[self._targets.name] = self._fitted(self._targets, batch[self._key_in(batch)])
        return fed

    def dataset(self, data: Any) -> Dataset:
        """A whole data set, under the graph's names and with its element types."""
        given = as_dataset(data)
        return Dataset(self.arrays(given.arrays), given.labels)

    def _key_in(self, batch: Mapping[str, Any]) -> str:
        if self.key is not None:
            if self.key in batch:
                return self.key
            raise InputError(f"the batch has no array {self.key!r} for the targets; it has: {_listed(batch)}")
        rest = [k for k in batch if k not in self._model]
        if len(rest) != 1:
            listed = ", ".join(map(repr, rest))
            said = f"any of {listed} could be" if rest else f"nothing beside {_listed(self._model)} is"
            raise InputError(f"{said} the targets; name them with target=")
        return rest[0]

    def _fitted(self, value: Value, given: Any) -> Array:
        a = _converted(value, given, self._float)
        wanted = value.type.shape if isinstance(value.type, TensorType) else None
        if wanted is not None and len(wanted) == a.ndim + 1 and wanted[-1] == 1:
            return a[..., None]  # targets [n] for predictions [n, 1]
        if wanted is not None and len(wanted) == a.ndim - 1 and a.shape[-1] == 1:
            return a[..., 0]  # a column of labels [n, 1]
        if wanted is not None and len(wanted) == a.ndim + 1 and np.asarray(given).dtype.kind in "iu":
            raise InputError(
                f"{value.name!r} takes {value.type}, the array is {np.asarray(given).dtype}{list(a.shape)}; "
                f"for class numbers choose a loss that takes them, such as 'softmax_cross_entropy'"
            )
        return a


def batch_length(arrays: Mapping[str, Array]) -> int:
    """The number of examples in a batch: the length of its first array (1 where that has no axis)."""
    first = next(iter(arrays.values()), None)
    return len(first) if first is not None and first.ndim else 1


def _converted(value: Value, given: Any, otherwise: np.dtype[Any] | None) -> Array:
    a = given if isinstance(given, np.ndarray) else np.asarray(given)
    wanted = numpy_dtype(value.type.dtype) if isinstance(value.type, TensorType) and value.type.dtype else None
    if wanted is None and otherwise is not None and a.dtype.kind == "f":
        wanted = otherwise
    if wanted is None or a.dtype == wanted:
        return a
    if not np.can_cast(a.dtype, wanted, "same_kind"):
        hint = " (one-hot rows to class numbers: a.argmax(1))" if wanted.kind == "i" and a.ndim > 1 else ""
        raise InputError(
            f"{value.name!r} takes {value.type}, the array is {a.dtype}{list(a.shape)}; "
            f"convert it: a.astype({wanted.name!r}){hint}"
        )
    return a.astype(wanted)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
