"""Entry points as installers leave them, found as `importlib.metadata` finds them."""

from __future__ import annotations

import sys
import zipfile
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points

import pytest

from graphrt.installed import InstalledPoint, installed_points

GROUP = "graphrt_tests"
TEXT = f"""
; what = stands before all sections
# nor has this = that
[console_scripts]
tool = other:main

[{GROUP}]
plain = os
  spaced   =   os.path
one.more-name = os : path
# off = os
function = os.path:join
deep = os:path.join
extras = json [speed, more]
=nameless

[{GROUP}.more]
another = os
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Two folders at the front of ``sys.path``, the first one first."""
    found = [tmp_path / "first", tmp_path / "second"]
    for place in found:
        place.mkdir()
    monkeypatch.setattr(sys, "path", [*map(str, found), str(tmp_path / "missing"), *sys.path])
    return found


def write(place, folder, text, metadata="Metadata-Version: 2.1\nName: example\nVersion: 1.0\n"):
    (place / folder).mkdir()
    (place / folder / "METADATA").write_text(metadata)
    if text is not None:
        (place / folder / "entry_points.txt").write_text(text, encoding="utf-8")


def pairs(points):
    return sorted((p.name, p.value) for p in points)


@pytest.mark.parametrize("group", ["console_scripts", "graphrt", "pytest11", "no such group"])
def test_those_of_this_environment(group):
    assert pairs(installed_points(group)) == pairs(entry_points(group=group))


def test_what_a_file_may_hold(places):
    write(places[0], "example-1.0.dist-info", TEXT)
    found = installed_points(GROUP)
    assert all(isinstance(p, InstalledPoint) for p in found)
    assert pairs(found) == pairs(entry_points(group=GROUP))
    assert pairs(installed_points(f"{GROUP}.more")) == [("another", "os")]
    for point in found:
        if point.name:
            assert point.load() is EntryPoint(point.name, point.value, GROUP).load()
        assert (point.dist.name, point.dist.version) == ("example", "1.0")


def test_a_damaged_file_is_read_as_far_as_it_goes(places):
    write(places[0], "bad-1.0.dist-info", "x")
    (places[0] / "bad-1.0.dist-info" / "entry_points.txt").write_bytes(b"[graphrt_tests]\n\xff\xfe\nok = os\n")
    assert ("ok", "os") in pairs(installed_points(GROUP))


def test_of_two_distributions_of_one_name_the_first_counts(places):
    write(places[0], "My_Dist-1.0.dist-info", f"[{GROUP}]\nnew = os\n")
    write(places[1], "my.dist-0.9.dist-info", f"[{GROUP}]\nold = os\n")
    write(places[1], "other-0.9.egg-info", f"[{GROUP}]\nother = os\n")
    write(places[1], "silent-0.9.dist-info", None)
    (places[1] / "flat-1.egg-info").write_text("Name: flat\n")
    assert pairs(installed_points(GROUP)) == [("new", "os"), ("other", "os")] == pairs(entry_points(group=GROUP))


def test_the_working_folder_counts_where_sys_path_names_it(places, monkeypatch):
    write(places[0], "here-1.0.dist-info", f"[{GROUP}]\nhere = os\n")
    monkeypatch.chdir(places[0])
    monkeypatch.setattr(sys, "path", ["", b"here", None, *sys.path[2:]])
    assert pairs(installed_points(GROUP)) == [("here", "os")]


def archive(folder, places):
    path = folder / "packed.zip"
    with zipfile.ZipFile(path, "w") as f:
        f.writestr("packed-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: packed\nVersion: 1.0\n")
        f.writestr("packed-1.0.dist-info/entry_points.txt", f"[{GROUP}]\npacked = os\n")
    sys.path.append(str(path))


def egg(folder, places):
    (folder / "packed-1.0.egg" / "EGG-INFO").mkdir(parents=True)
    (folder / "packed-1.0.egg" / "EGG-INFO" / "PKG-INFO").write_text("Name: packed\nVersion: 1.0\n")
    (folder / "packed-1.0.egg" / "EGG-INFO" / "entry_points.txt").write_text(f"[{GROUP}]\npacked = os\n")
    sys.path.append(str(folder / "packed-1.0.egg"))


class Finder:
    """An importer that finds distributions its own way."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None

    @staticmethod
    def find_distributions(context):
        if context.name is None:
            place = context.path[0]
            yield from PathFinder.find_distributions(type(context)(path=[f"{place}/hidden"]))


def importer(folder, places):
    (places[0] / "hidden").mkdir()
    write(places[0] / "hidden", "packed-1.0.dist-info", f"[{GROUP}]\npacked = os\n")
    sys.meta_path.append(Finder)


@pytest.mark.parametrize("install", [archive, egg, importer])
def test_distributions_in_other_places(places, tmp_path, monkeypatch, install):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    write(places[1], "plain-1.0.dist-info", f"[{GROUP}]\nplain = os\n")
    install(tmp_path, places)
    assert pairs(installed_points(GROUP)) == [("packed", "os"), ("plain", "os")]
