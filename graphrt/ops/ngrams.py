"""TfIdfVectorizer: counts of n-grams in sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.types import TensorType


@op("TfIdfVectorizer", version=9, nondiff=True)
def tf_idf_vectorizer(
    x: Array, *, max_gram_length: int, max_skip_count: int, min_gram_length: int, mode: str,
    ngram_counts: tuple[int, ...], ngram_indexes: tuple[int, ...], pool_int64s: tuple[int, ...] | None = None,
    pool_strings: tuple[str, ...] | None = None, weights: tuple[float, ...] | None = None,
) -> Array:  # fmt: skip
    """Counts how often each n-gram of a pool occurs in each row of tokens.

    x: string, int32 or int64 [C] or [B, C] -> y: float32 [K] or [B, K], K = max(ngram_indexes) + 1.
    The pool lists all 1-grams, then all 2-grams, ...; ``ngram_counts[n - 1]`` is where the n-grams start, and the
    i-th n-gram is counted in column ``ngram_indexes[i]``. An n-gram's tokens stand s + 1 places apart, for every
    s from 0 to ``max_skip_count`` (1-grams are counted once). Mode "TF": the counts; "IDF": ``weights[i]`` where the
    i-th n-gram occurs; "TFIDF": its count times ``weights[i]``. N-grams of one column add up. ONNX operator spec.
    """
    if mode not in ("TF", "IDF", "TFIDF"):
        raise ValueError(f"mode is {mode!r}; it should be TF, IDF or TFIDF")
    if (pool_int64s is None) == (pool_strings is None):
        raise ValueError("give one of pool_int64s and pool_strings")
    if min(ngram_indexes, default=-1) < 0:
        raise ValueError("ngram_indexes should be one or more numbers, 0 or greater")
    if x.ndim > 2:
        raise ValueError(f"x has shape {list(x.shape)}; it should be [C] or [B, C]")
    pool: Sequence[Any] = pool_strings if pool_int64s is None else pool_int64s  # type: ignore[assignment]
    grams = _grams(pool, ngram_counts, len(ngram_indexes), min_gram_length, max_gram_length)
    tokens = np.reshape(x, (1, -1)) if x.ndim < 2 else x
    counts = _Pool(grams, len(ngram_indexes)).count(tokens, max_skip_count)
    values = _weighted(counts, mode, weights)
    y = np.zeros((len(tokens), max(ngram_indexes) + 1), np.float32)
    np.add.at(y.T, np.array(ngram_indexes), values.T)
    return y if x.ndim == 2 else y[0]


def _weighted(counts: Array, mode: str, weights: tuple[float, ...] | None) -> Array:
    values = (counts > 0 if mode == "IDF" else counts).astype(np.float32)
    if mode == "TF" or not weights:
        return values
    if len(weights) != values.shape[1]:
        raise ValueError(f"{len(weights)} weights for {values.shape[1]} n-grams")
    return values * np.array(weights, np.float32)


def _grams(
    pool: Sequence[Any], starts: Sequence[int], count: int, least: int, most: int
) -> list[tuple[tuple[Any, ...], int]]:
    """The n-grams of lengths ``least`` to ``most``, each with its number among all."""
    ends = [*starts[1:], len(pool)]
    if list(starts) != sorted(starts) or (starts and not 0 <= starts[0] <= starts[-1] <= len(pool)):
        raise ValueError(f"ngram_counts {tuple(starts)} should rise to at most {len(pool)}, the size of the pool")
    found: list[tuple[tuple[Any, ...], int]] = []
    i = 0
    for n, (start, end) in enumerate(zip(starts, ends, strict=True), start=1):
        for at in range(start, end - n + 1, n):
            if i >= count:
                raise ValueError(f"the pool has more than {count} n-grams, as many as there are ngram_indexes")
            if least <= n <= most:
                found.append((tuple(pool[at : at + n]), i))
            i += 1
    return found


class _Pool:
    """The n-grams as a tree: a node is an n-gram or the beginning of one; node 0 is the empty one.

    ``edges`` holds ``node * tokens + token``, sorted, and ``targets`` the node each leads to; ``gram`` is the number of
    the n-gram a node stands for, or -1; its last entry is for "no node", which is -1 too.
    """

    def __init__(self, grams: Sequence[tuple[tuple[Any, ...], int]], count: int):
        self.count_of_grams = count
        self.longest = max((len(g) for g, _ in grams), default=0)
        self.number: dict[Any, int] = {}
        for gram, _ in grams:
            for token in gram:
                self.number.setdefault(token, len(self.number))
        nodes: dict[tuple[int, int], int] = {}
        gram_of: dict[int, int] = {}
        for gram, k in grams:
            node = 0
            for token in gram:
                node = nodes.setdefault((node, self.number[token]), len(nodes) + 1)
            gram_of.setdefault(node, k)
        size = len(self.number)
        order = sorted((parent * size + token, node) for (parent, token), node in nodes.items())
        self.edges = np.array([e for e, _ in order], np.int64)
        self.targets = np.array([t for _, t in order], np.int64)
        self.gram = np.array([*(gram_of.get(i, -1) for i in range(len(nodes) + 1)), -1], np.int64)
        self.lengths = {len(g) for g, _ in grams}

    def count(self, tokens: Array, skips: int) -> Array:
        """How often each n-gram occurs in each row [B, C] -> int64 [B, n-grams]."""
        counts = np.zeros((len(tokens), self.count_of_grams), np.int64)
        if not self.lengths or not tokens.size:
            return counts
        numbers = self._numbers(tokens)
        for distance in range(1, skips + 2):
            node = np.zeros_like(numbers)
            for n in range(1, self.longest + 1):
                starts = numbers.shape[1] - (n - 1) * distance
                if starts <= 0:
                    break
                node = self._follow(node[:, :starts], numbers[:, (n - 1) * distance :])
                if n in self.lengths and (n > 1 or distance == 1):
                    row, at = np.nonzero(self.gram[node] >= 0)
                    np.add.at(counts, (row, self.gram[node[row, at]]), 1)
        return counts

    def _numbers(self, tokens: Array) -> Array:
        """Tokens as numbers; -1 for those in no n-gram."""
        unique, inverse = np.unique(tokens, return_inverse=True)
        known = np.array([self.number.get(t, -1) for t in unique.tolist()], np.int64)
        return known[inverse].reshape(tokens.shape)

    def _follow(self, node: Array, token: Array) -> Array:
        """The nodes one token further on; -1 where there is none."""
        key = node * len(self.number) + token
        at = np.minimum(np.searchsorted(self.edges, key), len(self.edges) - 1)
        found = (self.edges[at] == key) & (node >= 0) & (token >= 0)
        return np.where(found, self.targets[at], -1)


@tf_idf_vectorizer.infer
def _(x, ngram_indexes):
    width = max(ngram_indexes) + 1
    if x.shape is None:
        return TensorType("float32")
    if len(x.shape) > 2:
        raise ValueError(f"x is {x}; it should be [C] or [B, C]")
    return TensorType("float32", (x.shape[0], width) if len(x.shape) == 2 else (width,))


@tf_idf_vectorizer.examples
def _(rng):
    common = {
        "ngram_counts": (0, 4),
        "ngram_indexes": (0, 1, 2, 3, 4, 5, 6),
        "pool_int64s": (2, 3, 5, 4, 5, 6, 7, 8, 6, 7),
    }
    x = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], np.int32)
    for mode in ("TF", "IDF", "TFIDF"):
        for least, most, skip in ((1, 1, 0), (2, 2, 0), (1, 2, 5)):
            given = {"min_gram_length": least, "max_gram_length": most, "max_skip_count": skip, "mode": mode}
            yield (x,), {**common, **given, "weights": (0.5, 1.0, 2.0, 0.25, 3.0, 0.125, 4.0)}
    plain = {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0, "mode": "TF"}
    words = {"ngram_counts": (0, 2), "ngram_indexes": (2, 0, 1), "pool_strings": ("a", "b", "a", "b")}
    yield (np.array(["b", "a", "b", "c"], object),), {**words, **plain}
    yield (np.zeros((2, 0), np.int64),), {**common, **plain}
    yield (np.zeros((0, 3), np.int64),), {**common, **plain}


OPS = (tf_idf_vectorizer,)
