"""Data sets and data files: what fits, and the message for what does not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphrt.errors import DataError
from graphrt.train import Dataset, load_data
from graphrt.train.data import as_dataset


@given(n=st.integers(1, 40), size=st.integers(1, 50), shuffle=st.booleans(), seed=st.integers(0, 9))
def test_batches_hold_every_example_once_and_keep_arrays_together(n, size, shuffle, seed):
    data = Dataset({"x": np.arange(n) * 2, "y": np.arange(n) * 2 + 1})
    batches = list(data.batches(size, np.random.default_rng(seed), shuffle=shuffle))
    assert [len(b["x"]) for b in batches[:-1]] == [size] * (len(batches) - 1)
    x, y = (np.concatenate([b[k] for b in batches]) for k in ("x", "y"))
    np.testing.assert_array_equal(y, x + 1)
    np.testing.assert_array_equal(np.sort(x), data["x"])
    if not shuffle:
        np.testing.assert_array_equal(x, data["x"])
    rest = list(data.batches(size, np.random.default_rng(seed), shuffle=shuffle, start=1))
    assert [b["x"].tolist() for b in rest] == [b["x"].tolist() for b in batches[1:]]


@given(n=st.integers(10, 60), seed=st.integers(0, 9), classes=st.integers(1, 4))
def test_splits_are_disjoint_complete_and_stratified(n, seed, classes):
    label = np.random.default_rng(seed).integers(0, classes, n)
    data = Dataset({"x": np.arange(n), "label": label})
    for stratify in (None, "label"):
        parts = data.split([0.5, 0.3, 0.2], seed, stratify)
        assert sorted(np.concatenate([p["x"] for p in parts])) == list(range(n))
        assert [len(p) for p in parts] == pytest.approx([0.5 * n, 0.3 * n, 0.2 * n], abs=1)
        again = data.split([0.5, 0.3, 0.2], seed, stratify)
        assert all(np.array_equal(p["x"], q["x"]) for p, q in zip(parts, again, strict=True))
    for part, fraction in zip(parts, [0.5, 0.3, 0.2], strict=True):
        for c in range(classes):
            assert np.sum(part["label"] == c) == pytest.approx(fraction * np.sum(label == c), abs=classes)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Dataset({}), "needs at least one array"),
        (lambda: Dataset({"x": [1, 2], "y": [1]}), "one length, the number of examples: 'x' has 2, 'y' has 1"),
        (lambda: Dataset({"x": []}), "the data set is empty: x have no examples"),
        (lambda: Dataset({"x": 3.0}), "array 'x' has no axis of examples"),
        (lambda: Dataset({"x": [[1], [2, 3]]}), "array 'x': "),
        (lambda: Dataset({"x": np.array([{}, 1], object)}), "array 'x' holds Python objects"),
        (lambda: Dataset({"x": [1]})["y"], "no array 'y'; it has: x"),
        (lambda: next(Dataset({"x": [1]}).batches(0)), "at least one example, not 0"),
        (lambda: next(Dataset({"x": [1]}).batches(1, shuffle=True)), "shuffling needs a generator"),
        (lambda: Dataset({"x": [1, 2]}).split([0.9, 0.2]), "add up to at most 1, not [0.9, 0.2]"),
        (lambda: Dataset({"x": [1, 2]}).split([0.9, 0.1]), "2 examples are too few for parts of [0.9, 0.1]"),
        (lambda: Dataset({"x": [[1], [2]]}).split([0.5], stratify="x"), "names an array of labels [n], not [2, 1]"),
        (lambda: as_dataset([1, 2]), "a Dataset or a mapping from names to arrays, not list"),
    ],
)
def test_arrays_that_make_no_data_set_are_refused(make, message):
    with pytest.raises(DataError, match=re.escape(message)):
        make()


def write(tmp_path, text, name="data.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_becomes_inputs_and_targets(tmp_path):
    path = write(tmp_path, "a,b,label\n1,2,0\n3,4.5,1\n\n5,6e1,0\n")
    data = load_data(path, target="label")
    assert data.names == ("x", "y") and data["x"].dtype == np.float32 and data["y"].dtype == np.int64
    np.testing.assert_array_equal(data["x"], np.array([[1, 2], [3, 4.5], [5, 60]], "float32"))
    assert data["y"].tolist() == [0, 1, 0]
    same = load_data(path, target=-1, inputs={"first": ["a"], "both": [0, 1]}, output="t", dtype="float64")
    assert same.names == ("first", "both", "t") and same["both"].shape == (3, 2) and same["both"].dtype == np.float64


def test_text_targets_become_classes_in_alphabetical_order(tmp_path):
    data = load_data(write(tmp_path, "1,setosa\n2,versicolor\n3,setosa\n4,arctica\n"), target=1)
    assert data["y"].tolist() == [1, 2, 1, 0]
    assert data.labels == {"y": ("arctica", "setosa", "versicolor")}
    assert data.take([0, 1]).labels == data.labels
    np.testing.assert_array_equal(data["x"][:, 0], [1, 2, 3, 4])


def test_other_targets(tmp_path):
    path = write(tmp_path, "x,u,v\n1,0.5,2\n2,1,4\n")
    assert load_data(path, target="u")["y"].tolist() == [0.5, 1.0]
    assert load_data(path, target=["u", "v"])["y"].tolist() == [[0.5, 2], [1, 4]]
    assert load_data(path).names == ("x",)
    assert load_data(write(tmp_path, "1,2\n3,4\n"), target=0, header=True)["y"].tolist() == [3]


@pytest.mark.parametrize(
    "text, target, message",
    [
        ("a,b\n1,2\n3,oops\n", None, "line 3, column 'b': 'oops' is no number"),
        ("a,b\n1,2\n\n3,\n", None, "line 4, column 'b': the cell is empty"),
        ("a,b\n1,2\n3,\n", "b", "line 3, column 'b': the cell is empty"),
        ("a,b\n1,2\n3,4,5\n", None, "line 3: 3 cells, the first line has 2"),
        ("a,b\n1,2\n", "c", "there is no column 'c'; there are: a, b"),
        ("a,b\n1,2\n", 2, "there is no column 2"),
        ("a,b\n1,2\n3,x\n", "b", "line 3, column 'b': 'x' is no number"),
        ("a,b\n", None, "there are no rows of data"),
        ("", None, "there are no rows of data"),
        ("a,a\n1,2\n", None, "two columns have one name: a, a"),
        (b"\xff\xfe1,2\n", None, "cannot be read as .csv"),
        ('a,b\n1,"2\n', None, "cannot be read as .csv: unexpected end of data"),
    ],
)
def test_bad_tables_are_refused_with_the_line(tmp_path, text, target, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + re.escape(message)):
        load_data(path, target=target)


def test_numpy_files(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.eye(3), y=[0, 1, 2])
    assert load_data(tmp_path / "d.npz").names == ("x", "y")
    np.save(tmp_path / "d.npy", np.array([[1.5, 0], [2.5, 1]]))
    data = load_data(tmp_path / "d.npy", target=-1)
    assert data["x"].tolist() == [[1.5], [2.5]] and data["y"].dtype == np.int64
    assert load_data(tmp_path / "d.npy")["x"].shape == (2, 2)
    with pytest.raises(DataError, match="there is no column 5; there are 2"):
        load_data(tmp_path / "d.npy", target=5)


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x93NUMPY\x01\x00\xff\xff"])
def test_damaged_numpy_files_are_refused(tmp_path, name, content):
    path = write(tmp_path, content, name)
    with pytest.raises(DataError, match="cannot be read as"):
        load_data(path)


def test_nothing_in_a_file_is_executed(tmp_path):
    np.save(tmp_path / "o.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot be read as \.npy"):
        load_data(tmp_path / "o.npy")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=re.escape("data files are .npz, .npy or .csv")):
        load_data(tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"cannot be read as \.csv: No such file"):
        load_data(tmp_path / "missing.csv")
