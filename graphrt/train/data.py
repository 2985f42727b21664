"""Data sets in memory, and reading them from files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from graphrt.errors import DataError
from graphrt.op import Array
from graphrt.train.tables import read_csv


class Dataset:
    """Equally long arrays by name: the i-th entries of all of them are one example.

    Args:
        arrays: name to array (or nested list), each ``[n, ...]``.
        labels: for columns that were read as text, the text of each class number.

    Raises:
        DataError: there is no array, one has no axis or another length, or an array is empty.

    >>> data = Dataset({"x": [[0.0], [1.0], [2.0]], "y": [0, 1, 1]})
    >>> len(data), data.names, data["y"].dtype.name
    (3, ('x', 'y'), 'int64')
    """

    def __init__(self, arrays: Mapping[str, Any], labels: Mapping[str, Sequence[str]] | None = None):
        if not arrays:
            raise DataError("a data set needs at least one array")
        self.arrays: Mapping[str, Array] = MappingProxyType({k: _as_array(k, a) for k, a in arrays.items()})
        self.labels = {k: tuple(v) for k, v in (labels or {}).items()}
        lengths = {k: len(a) for k, a in self.arrays.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{k!r} has {n}" for k, n in lengths.items())
            raise DataError(f"the arrays of a data set have one length, the number of examples: {listed}")
        self._length = next(iter(lengths.values()))
        if not self._length:
            raise DataError(f"the data set is empty: {', '.join(lengths)} have no examples")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            raise DataError(f"the data set has no array {name!r}; it has: {', '.join(self.arrays)}")
        return self.arrays[name]

    def __repr__(self) -> str:
        kinds = ", ".join(f"{k}: {a.dtype.name}{list(a.shape)}" for k, a in self.arrays.items())
        return f"Dataset({kinds})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self.arrays)

    def take(self, indices: Any) -> Dataset:
        """The examples at these positions, in this order."""
        return Dataset({k: a[indices] for k, a in self.arrays.items()}, self.labels)

    def batches(
        self, batch_size: int, rng: np.random.Generator | None = None, *, shuffle: bool = False, start: int = 0
    ) -> Iterator[dict[str, Array]]:
        """Mini-batches, the last one smaller where it does not come out even.

        Args:
            batch_size: examples in each; 1 or more.
            rng: what the order is drawn from.
            shuffle: whether the examples come in random order (else they are views, without a copy).
            start: how many batches to leave out at the beginning.

        Raises:
            DataError: the batch size is less than 1, or ``shuffle`` without ``rng``.
        """
        if batch_size < 1:
            raise DataError(f"a batch has at least one example, not {batch_size}")
        if shuffle and rng is None:
            raise DataError("shuffling needs a generator: rng=np.random.default_rng(seed)")
        order = rng.permutation(self._length) if shuffle and rng is not None else None
        for at in range(start * batch_size, self._length, batch_size):
            if order is None:
                yield {k: a[at : at + batch_size] for k, a in self.arrays.items()}
            else:
                chosen = order[at : at + batch_size]
                yield {k: a.take(chosen, axis=0) for k, a in self.arrays.items()}

    def split(self, fractions: Sequence[float], seed: int = 0, stratify: str | None = None) -> tuple[Dataset, ...]:
        """Disjoint random parts, e.g. ``train, validation, test = data.split([0.8, 0.1, 0.1])``.

        Args:
            fractions: of the examples in each part, > 0; they add up to 1, or to less to leave some out.
            seed: of the shuffle; the same seed gives the same parts.
            stratify: name of an array of labels; each part then has each label in (nearly) the same proportion.

        Raises:
            DataError: the fractions do not fit, or a part would be empty.
        """
        if not fractions or min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
            raise DataError(f"fractions are positive and add up to at most 1, not {list(fractions)}")
        order = np.random.default_rng(seed).permutation(self._length)
        if stratify is not None:
            order = _spread_evenly(order, self[stratify])
        cuts = np.rint(np.cumsum([0.0, *fractions]) * self._length).astype(int)
        if np.any(np.diff(cuts) == 0):
            raise DataError(f"{self._length} examples are too few for parts of {list(fractions)}: one would be empty")
        return tuple(self.take(np.sort(order[a:b])) for a, b in itertools.pairwise(cuts))


def as_dataset(data: Any) -> Dataset:
    """A `Dataset` of one, or of a mapping of arrays.

    Raises:
        DataError: it is neither.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Mapping):
        return Dataset(data)
    raise DataError(f"data is a Dataset or a mapping from names to arrays, not {type(data).__name__}")


def load_data(
    path: str | os.PathLike[str],
    *,
    target: str | int | Sequence[str | int] | None = None,
    inputs: str | Mapping[str, Sequence[str | int]] = "x",
    output: str = "y",
    header: bool | None = None,
    dtype: str = "float32",
) -> Dataset:
    """Reads a data set from a ``.npz``, ``.npy`` or ``.csv`` file. Nothing in a file is executed.

    A ``.npz`` gives its arrays under their own names. A ``.npy`` array ``[n, columns]`` and a ``.csv`` table are cut
    into columns: the target's under the name ``output``, the rest as one array ``[n, columns]``.

    Args:
        path: the file.
        target: column or columns of the targets, by name or position (negative from the end). None: no target.
        inputs: name of the array of all other columns, or a mapping from array names to their columns.
        output: name of the array of targets: int64 [n] if all cells are whole numbers; classes 0, 1, … in
            alphabetical order if they are text (see `Dataset.labels`); else floats. Several columns: floats [n, k].
        header: whether the first line of a ``.csv`` names the columns; None: see `graphrt.train.tables.read_csv`.
        dtype: of float arrays made from columns.

    Raises:
        DataError: the file cannot be read, has no such column, or a cell is no number (with its line).
    """
    name = os.fspath(path)
    suffix = os.path.splitext(name)[1].lower()
    columns = (target, inputs, output, dtype)
    if suffix == ".csv":
        return Dataset(*read_csv(name, header).arrays(*columns))
    if suffix not in (".npz", ".npy"):
        raise DataError(f"{name}: data files are .npz, .npy or .csv; convert it")
    try:
        with open(name, "rb") as f:
            loaded = np.load(f, allow_pickle=False)
            arrays = {k: loaded[k] for k in loaded.files} if suffix == ".npz" else {"": np.asarray(loaded)}
    except Exception as e:  # zipfile, zlib and the reader of headers each have errors of their own
        reason = getattr(e, "strerror", None) or f"{type(e).__name__}: {e}"
        raise DataError(f"{name}: cannot be read as {suffix}: {reason}") from e
    if suffix == ".npz":
        return Dataset(arrays)
    return _from_matrix(name, arrays[""], target, inputs, output)


def _from_matrix(name: str, a: Array, target: Any, inputs: Any, output: str) -> Dataset:
    if target is None and isinstance(inputs, str):
        return Dataset({inputs: a})
    if a.ndim != 2 or not isinstance(target, int) or not isinstance(inputs, str):
        raise DataError(f"{name}: target= is the position of a column in an array [n, columns], not {list(a.shape)}")
    if not -a.shape[1] <= target < a.shape[1]:
        raise DataError(f"{name}: there is no column {target}; there are {a.shape[1]}")
    y = a[:, target]
    whole = y.dtype.kind == "f" and bool(np.all(y == np.rint(y)))
    return Dataset({inputs: np.delete(a, target, axis=1), output: y.astype(np.int64) if whole else y})


def _as_array(name: str, given: Any) -> Array:
    try:
        a = np.asarray(given)
    except ValueError as e:
        raise DataError(f"array {name!r}: {e}") from None
    if a.ndim == 0:
        raise DataError(f"array {name!r} has no axis of examples: it is the single number {given!r}")
    if a.dtype == object and not all(isinstance(v, str) for v in a.flat):
        raise DataError(f"array {name!r} holds Python objects; make it an array of numbers")
    return a


def _spread_evenly(order: Array, labels: Array) -> Array:
    """The order, changed so that every stretch of it holds each label in proportion."""
    if labels.ndim != 1:
        raise DataError(f"stratify= names an array of labels [n], not {list(labels.shape)}")
    _, group = np.unique(labels[order], return_inverse=True)
    position = np.empty(len(order))
    for g in range(int(group.max()) + 1):
        at = np.flatnonzero(group == g)
        position[at] = (np.arange(len(at)) + 0.5) / len(at)
    return order[np.argsort(position, kind="stable")]
