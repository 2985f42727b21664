"""``graphrt.load`` and ``graphrt.save``: which format a path means, converters, whole files or none."""

import os

import numpy as np
import pytest

import graphrt as gr
from graphrt.definitions import Converter
from graphrt.errors import ConversionError, FormatError, SaveError
from graphrt.io import find_converter, load, save, suffixes
from graphrt.ir.compare import same_graph
from graphrt.registry import Registry


@pytest.fixture
def graph():
    b = gr.GraphBuilder("small")
    b.output(b.input("x", "float32", ["n"]) * b.parameter("w", np.float32(2)), "y")
    return b.build()


def write(graph, path):
    """A converter's save: a file, and another beside it."""
    path.write_text(graph.name)
    path.with_suffix(".weights").write_text("2")


def fail(graph, path):
    path.write_text("half a fi")
    raise KeyError("surprise")


def refuse(path):
    raise ConversionError(f"{path}: node 3 has no counterpart")


def registry(**functions):
    return Registry.of(converters=[Converter("toy", (".toy", ".TOY.gz"), **functions)])


@pytest.mark.parametrize("suffix", [".grt", ".json", ".GRT", ".Json"])
def test_own_formats(graph, tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    save(graph, path)
    assert same_graph(load(str(path)), graph) == []
    assert os.listdir(tmp_path) == [path.name]


def test_a_container_is_told_by_its_content(graph, tmp_path):
    save(graph, tmp_path / "m.grt")
    os.rename(tmp_path / "m.grt", tmp_path / "m.backup")
    assert same_graph(load(tmp_path / "m.backup"), graph) == []


def test_converter(graph, tmp_path):
    known = registry(load=lambda path: graph.replace(name=path.read_text()), save=write)
    save(graph, tmp_path / "m.toy", registry=known)
    assert load(tmp_path / "m.toy", registry=known).name == "small"
    assert sorted(os.listdir(tmp_path)) == ["m.toy", "m.weights"]
    assert suffixes(known) == (".grt", ".json", ".toy", ".toy.gz")
    assert find_converter("a.toy.GZ", known) is not None


def test_failed_save_leaves_the_old_file(graph, tmp_path):
    path = tmp_path / "m.toy"
    path.write_text("precious")
    with pytest.raises(ConversionError, match=r"converter 'toy' \(plug-in given\) failed: KeyError: 'surprise'"):
        save(graph, path, registry=registry(save=fail))
    with pytest.raises(SaveError, match="wrote no file"):
        save(graph, path, registry=registry(save=lambda graph, path: None))
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["m.toy"]


def test_one_way_converters(graph, tmp_path):
    path = tmp_path / "m.toy"
    with pytest.raises(ConversionError, match="reads such files and cannot write them"):
        save(graph, path, registry=registry(load=refuse))
    path.write_text("x")
    with pytest.raises(ConversionError, match="writes such files and cannot read them"):
        load(path, registry=registry(save=write))
    with pytest.raises(ConversionError, match="node 3 has no counterpart"):
        load(path, registry=registry(load=refuse))


def test_nothing_serves_the_suffix(graph, tmp_path):
    empty = Registry.of()
    hints = {"m.onnx": "pip install graphrt-onnx; known are .grt, .json", "m.xyz": "known are", "m": "without a suffix"}
    for name, hint in hints.items():
        with pytest.raises(SaveError, match=hint):
            save(graph, tmp_path / name, registry=empty)
        (tmp_path / name).write_text("something")
        with pytest.raises(FormatError, match=hint):
            load(tmp_path / name, registry=empty)


def test_missing_files_and_folders(graph, tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        load(tmp_path / "missing.onnx")
    with pytest.raises(FormatError, match="this is a folder"):
        load(tmp_path)
    with pytest.raises(SaveError, match="choose a writable folder that exists"):
        save(graph, tmp_path / "missing" / "m.toy", registry=registry(save=write))


def test_a_link_is_followed(graph, tmp_path):
    (tmp_path / "real.toy").write_text("old")
    os.symlink(tmp_path / "real.toy", tmp_path / "link.toy")
    save(graph, tmp_path / "link.toy", registry=registry(save=write))
    assert (tmp_path / "real.toy").read_text() == "small"
    assert os.path.islink(tmp_path / "link.toy")
