"""Files: zero-copy reading, whole-or-nothing writing, clear refusals."""

import errno
import hashlib
import mmap
import os
import resource
import stat
import struct
import subprocess
import sys
import textwrap

import msgpack
import numpy as np
import pytest

import graphrt.format as fmt
from graphrt.errors import FormatError, SaveError
from graphrt.format import dumps, load, save, to_json, verify_file
from graphrt.ir.compare import same_graph
from graphrt.ir.graph import Graph

GOOD = Graph("good", initializers={"w": np.arange(12, dtype=np.float32), "odd": np.ones(3, np.int8)})
OTHER = GOOD.replace(name="other")


@pytest.mark.parametrize("suffix", [".grt", ".json", ".GRT", ".Json"])
def test_save_and_load(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    save(GOOD, path)
    assert same_graph(GOOD, load(path)) == []
    assert same_graph(GOOD, load(str(path), verify=False)) == []
    assert same_graph(GOOD, load(path, mmap=False)) == []
    verify_file(path)
    assert os.listdir(tmp_path) == [path.name]


def test_what_is_written_is_what_dumps_and_to_json_give(tmp_path):
    save(GOOD, tmp_path / "a.grt")
    save(GOOD, tmp_path / "a.json")
    assert (tmp_path / "a.grt").read_bytes() == dumps(GOOD)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == to_json(GOOD)


@pytest.mark.parametrize("mapped", [True, False])
def test_arrays_are_aligned_read_only_views(tmp_path, mapped):
    save(GOOD, tmp_path / "a.grt")
    for array in load(tmp_path / "a.grt", mmap=mapped).initializers.values():
        assert not array.flags.writeable
        assert isinstance(array.base, mmap.mmap)
        assert array.ctypes.data % 64 == 0
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_container_is_known_by_its_magic(tmp_path):
    (tmp_path / "model.bin").write_bytes(dumps(GOOD))
    (tmp_path / "model.json").write_bytes(dumps(GOOD))
    assert same_graph(GOOD, load(tmp_path / "model.bin")) == []
    assert same_graph(GOOD, load(tmp_path / "model.json")) == []


def test_relative_paths_and_links(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(GOOD, "a.grt")
    os.symlink("a.grt", "link.grt")
    save(OTHER, "link.grt")
    assert os.path.islink("link.grt")
    assert load("a.grt").name == "other"
    assert load("./link.grt").name == "other"


def test_permissions_of_a_replaced_file_are_kept(tmp_path):
    path = tmp_path / "a.grt"
    save(GOOD, path)
    path.chmod(0o640)
    save(OTHER, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_arrays_stay_valid_when_their_file_is_replaced(tmp_path):
    path = tmp_path / "a.grt"
    save(GOOD, path)
    graph = load(path)
    save(graph.replace(initializers={"w": np.zeros(12, np.float32)}), path)
    np.testing.assert_array_equal(graph.initializers["w"], GOOD.initializers["w"])


def test_deferred_digests_find_the_damage_later(tmp_path):
    path = tmp_path / "a.grt"
    data = bytearray(dumps(GOOD))
    data[data.rindex(np.float32(11).tobytes())] ^= 1
    path.write_bytes(data)
    load(path, verify=False)
    with pytest.raises(FormatError, match=r"a\.grt: byte \d+: the tensor 'w' is damaged"):
        verify_file(path)
    data[70] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="the header is damaged"):
        load(path, verify=False)


def claiming(size):
    """All of a container but its tensor section, which is of one tensor of so many bytes."""
    small = dumps(Graph(initializers={"w": np.zeros(1, np.uint8)}))
    header = msgpack.unpackb(small[64 : 64 + int.from_bytes(small[16:24], "little")])
    header["tensors"][0] |= {"shape": [size], "nbytes": size}
    packed = msgpack.packb(header)
    padded = packed + bytes(-len(packed) % 64)
    sizes = struct.pack("<QQQ", 1, len(packed), 64 + len(padded) + size)
    return fmt.MAGIC + sizes + hashlib.sha256(packed).digest() + padded


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="resident memory is read from /proc")
def test_big_file_opens_without_reading_it(tmp_path):
    """A sparse file of 1 GB in a process of its own: resident memory before and after, in KiB."""
    program = """
        import sys
        sys.path.insert(0, sys.argv[2])
        from graphrt.format import load
        def resident():
            return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
        before = resident()
        w = load(sys.argv[1], verify=False).initializers["w"]
        assert w.nbytes == 1 << 30
        opened = resident() - before
        assert w[1 << 20] == 0
        print(opened, resident() - before)
    """
    size = 1 << 30
    data = claiming(size)
    path = tmp_path / "big.grt"
    path.write_bytes(data)
    os.truncate(path, len(data) + size)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-c", textwrap.dedent(program), str(path), root]
    opened, touched = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert opened < 2048
    assert touched < 8192


# -- refusals -------------------------------------------------------------------------------------


def test_missing_and_unusual_files(tmp_path):
    with pytest.raises(FormatError, match=r"none\.grt: there is no such file: check the path"):
        load(tmp_path / "none.grt")
    with pytest.raises(FormatError, match="this is a folder"):
        load(tmp_path)
    with pytest.raises(FormatError, match="cannot be read"):
        load("a\0b.grt")
    with pytest.raises(FormatError, match="cannot be read"):
        load(tmp_path / ("x" * 5000 + ".grt"))
    os.mkfifo(tmp_path / "pipe.grt")
    with pytest.raises(FormatError, match="not a regular file"):
        load(tmp_path / "pipe.grt")
    (tmp_path / "empty.grt").write_bytes(b"")
    with pytest.raises(FormatError, match=r"byte 0: not a \.grt file"):
        load(tmp_path / "empty.grt")
    os.symlink("loop.grt", tmp_path / "loop.grt")
    with pytest.raises(FormatError, match="cannot be read"):
        load(tmp_path / "loop.grt")


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    save(GOOD, tmp_path / "a.grt")
    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(FormatError, match=r"a\.grt: cannot be read: Permission denied"):
        load(tmp_path / "a.grt")


def test_other_suffixes(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(FormatError, match=r"not a \.grt file, and the suffix '\.onnx' is not \.json"):
        load(tmp_path / "a.onnx")
    with pytest.raises(SaveError, match=r"the suffix '\.onnx' names no form of file; use \.grt or \.json"):
        save(GOOD, tmp_path / "a.onnx")
    assert fmt.SUFFIXES == (".grt", ".json")


def test_bad_text_files(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"graphrt": 1, "name": "\xff"}')
    with pytest.raises(FormatError, match="byte 24: the text is not UTF-8") as caught:
        load(path)
    assert caught.value.path == str(path)
    path.write_bytes(b"\xef\xbb\xbf" + to_json(GOOD).encode())
    assert same_graph(GOOD, load(path)) == []
    with pytest.raises(FormatError, match="the limit is 10"):
        load(path, limits=fmt.Limits(max_json=10))


# -- writing fails --------------------------------------------------------------------------------


def assert_intact(folder, path, content):
    assert path.read_bytes() == content
    assert os.listdir(folder) == [path.name]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("suffix", [".grt", ".json"])
def test_failing_system_calls_leave_the_old_file(tmp_path, monkeypatch, function, suffix):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / f"a{suffix}"
    save(GOOD, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, function, full)
    with pytest.raises(SaveError, match="could not be written: No space left on device; what was there before"):
        save(OTHER, path)
    assert_intact(tmp_path, path, before)


def test_full_disk_leaves_the_old_file(tmp_path):
    """A limit on the size of files fails writes as a full disk does, in the middle of them."""
    path = tmp_path / "a.grt"
    save(GOOD, path)
    before = path.read_bytes()
    big = Graph(initializers={"w": np.ones(100_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(SaveError, match="could not be written: File too large"):
            save(big, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_intact(tmp_path, path, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SaveError])
def test_other_failures_leave_the_old_file(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error("stop")

    path = tmp_path / "a.grt"
    save(GOOD, path)
    before = path.read_bytes()
    monkeypatch.setattr("graphrt.format.container.raw_bytes", fail)
    with pytest.raises(error, match="stop"):
        save(OTHER, path)
    assert_intact(tmp_path, path, before)


def test_bad_graph_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.grt"
    save(GOOD, path)
    before = path.read_bytes()
    with pytest.raises(SaveError, match="a NumPy array is due"):
        save(GOOD.replace(initializers={"w": 3}), path)
    assert_intact(tmp_path, path, before)


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(SaveError, match="cannot write there: No such file"):
        save(GOOD, tmp_path / "none" / "a.grt")
    (tmp_path / "folder.grt").mkdir()
    with pytest.raises(SaveError, match="not a regular file"):
        save(GOOD, tmp_path / "folder.grt")
    with pytest.raises(SaveError, match="cannot write there"):
        save(GOOD, "a\0b.grt")

    def denied(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(SaveError, match="cannot write there: Permission denied; choose a writable folder"):
        save(GOOD, tmp_path / "a.grt")
    assert os.listdir(tmp_path) == ["folder.grt"]
