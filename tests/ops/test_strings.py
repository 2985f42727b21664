"""String ops, n-gram counts and image files: values by hand, regular expressions also against Python's."""

from __future__ import annotations

import random
import re
import sys
import time

import numpy as np
import pytest

from graphrt.errors import InputError
from graphrt.ir.builder import GraphBuilder
from graphrt.ops.image_files import image_decoder
from graphrt.ops.ngrams import tf_idf_vectorizer
from graphrt.ops.strings import regex_full_match, string_concat, string_normalizer, string_split
from graphrt.runtime.session import Session


def words(*values):
    return np.array(values, object)


# ---- concat, split, normalize ------------------------------------------------------------------------------


def test_concat_broadcasts():
    y = string_concat(words("a", "b").reshape(2, 1), words("x", "", "é"))
    assert y.tolist() == [["ax", "a", "aé"], ["bx", "b", "bé"]]
    scalar = string_concat(np.array("a", object), np.array("b", object))
    assert scalar.shape == ()
    assert scalar.dtype == object
    assert scalar.item() == "ab"


@pytest.mark.parametrize(
    ("text", "attributes", "parts"),
    [
        ("a-b--c", {"delimiter": "-"}, ["a", "b", "", "c"]),
        ("a-b--c", {"delimiter": "--"}, ["a-b", "c"]),
        ("-a-", {"delimiter": "-"}, ["", "a", ""]),
        ("a-b-c", {"delimiter": "-", "maxsplit": 1}, ["a", "b-c"]),
        ("  a \t b\n", {}, ["a", "b"]),
        ("  a \t b\n", {"delimiter": ""}, ["a", "b"]),
        ("a b c", {"maxsplit": 1}, ["a", "b c"]),
        (" a  b ", {"maxsplit": 1}, ["a", "b"]),
        ("", {}, []),
        ("", {"delimiter": "-"}, [""]),
    ],
)
def test_split(text, attributes, parts):
    y, n = string_split(words(text, "z"), **attributes)
    width = max(len(parts), 1)
    assert y.tolist() == [parts + [""] * (width - len(parts)), ["z"] + [""] * (width - 1)]
    assert n.tolist() == [len(parts), 1]


def test_split_keeps_the_shape():
    y, n = string_split(words("a b", "c").reshape(1, 2, 1))
    assert y.shape == (1, 2, 1, 2)
    assert n.shape == (1, 2, 1)
    y, n = string_split(np.empty((0, 3), object))
    assert y.shape == (0, 3, 0)
    assert n.shape == (0, 3)
    assert n.dtype == np.int64


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ["Monday", "tuesday", "É"]),
        ({"stopwords": ("monday",)}, ["tuesday", "É"]),
        ({"stopwords": ("monday",), "is_case_sensitive": 1}, ["Monday", "tuesday", "É"]),
        ({"stopwords": ("Monday",), "is_case_sensitive": 1, "case_change_action": "LOWER"}, ["tuesday", "é"]),
        ({"case_change_action": "UPPER"}, ["MONDAY", "TUESDAY", "É"]),
        ({"stopwords": ("monday", "TUESDAY", "é")}, [""]),
    ],
)
def test_normalizer(attributes, expected):
    x = words("Monday", "tuesday", "É")
    assert string_normalizer(x, **attributes).tolist() == expected
    assert string_normalizer(x.reshape(1, 3), **attributes).tolist() == [expected]


def test_normalizer_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\[2, 1\]; it should be \[C\] or \[1, C\]"):
        string_normalizer(words("a", "b").reshape(2, 1))
    with pytest.raises(ValueError, match="one of NONE, LOWER, UPPER"):
        string_normalizer(words("a"), case_change_action="lower")


def test_strings_in_a_graph():
    b = GraphBuilder()
    x = b.input("x", "string", ["n"])
    y, n = b.StringSplit(b.StringConcat(x, x), delimiter="b", outputs=2)
    b.output(y, "y")
    b.output(n, "n")
    b.output(b.RegexFullMatch(x, pattern="a.*"), "m")
    out = Session(b.build()).run({"x": words("ab", "c")})
    assert out["y"].tolist() == [["a", "a", ""], ["cc", "", ""]]
    assert out["n"].tolist() == [3, 1]
    assert out["m"].tolist() == [True, False]


# ---- regular expressions -----------------------------------------------------------------------------------


def matches(pattern, text):
    return bool(regex_full_match(words(text), pattern=pattern)[0])


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a(b|c)*", ["a", "abcb"], ["", "ad", "xa"]),
        (r"www\.[\w.-]+\.\bcom\b", ["www.google.com"], ["www.google.org", "wwwxgoogle.com"]),
        ("", [""], ["a"]),
        ("(|a)+", ["", "aaa"], ["b"]),
        ("a{2,3}", ["aa", "aaa"], ["a", "aaaa"]),
        ("a{2,}?", ["aa", "aaaa"], ["a"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        ("a{0}b", ["b"], ["ab"]),
        (".", ["x", "é", "😀"], ["\n", ""]),
        ("(?s).", ["\n"], []),
        ("[^a]", ["\n", "b"], ["a"]),
        ("[]a-c-]+", ["]", "b-"], ["d"]),
        (r"[\d\-x]+", ["3-x"], ["4y"]),
        ("[[:alpha:][:^ascii:]]+", ["aé"], ["1"]),
        (r"\d+", ["42"], ["٣"]),
        (r"\s", [" ", "\t"], ["\v", "\u00a0"]),
        (r"\pL+\p{Nd}", ["aé٣"], ["a"]),
        (r"\PL\p{^Lu}", ["1a"], ["1A", "aa"]),
        ("a(?i)b|c", ["aB", "C"], ["AB"]),
        ("(?i:a)b", ["Ab"], ["AB"]),
        ("(?i)[^a]É", ["bé"], ["Aé"]),
        (r"\Qa.b\E+", ["a.bb"], ["axb"]),
        (r"\x{1F600}\x41\101", ["😀AA"], []),
        ("a$", ["a"], ["a\n"]),
        (r"(?m)a$\n^b", ["a\nb"], []),
        (r"\Aa\z", ["a"], []),
        (r"a\b.*\Bb", ["a,bb"], ["ab"]),
        (r"\B", [""], []),
        ("(?P<x>a)(?<y>b)", ["ab"], []),
        ("(?U)a+", ["aa"], []),
    ],
)
def test_patterns(pattern, yes, no):
    assert [t for t in yes if not matches(pattern, t)] == []
    assert [t for t in no if matches(pattern, t)] == []


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)", "not supported"), ("(?<!a)", "not supported"), (r"(a)\1", "not supported"),
        ("(?P=x)", "not supported"), (r"\C", "not supported"), (r"\Z", "not supported"),
        ("a++", "one repetition after another"), ("*a", "nothing to repeat"), ("(?i)*", "nothing to repeat"),
        ("(a", r"missing \)"), ("a)", r"unexpected \)"), ("[a", "unexpected end"), ("[b-a]", "bad range"),
        ("a{1001}", "bad repetition"), ("a{2,1}", "bad repetition"), ("[[:foo:]]", "unknown class"),
        (r"\p{Greek}", "unknown category"), ("(?x)a", "unknown flag"), ("(?i-)a", "no flag after -"),
        (r"\x{110000}", "bad character code"), ("(" * 200 + ")" * 200, "deeper than 100"),
        ("((a{100}){100}){100}", "too large"), ("\\", "unexpected end"), ("(?P<>a)", "bad group name"),
    ],
)  # fmt: skip
def test_patterns_that_are_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        matches(pattern, "a")


def test_random_patterns_agree_with_python():
    rng = random.Random(3)

    def draw(depth):
        kind = rng.random()
        if depth == 0 or kind < 0.35:
            return rng.choice(["a", "b", ".", r"\d", "[ab]", "[^a]", "[a-c1]", r"\w", r"\b", "^", r"\.", "1", r"[\d-]"])
        if kind < 0.55:
            return draw(depth - 1) + draw(depth - 1)
        if kind < 0.7:
            return f"(?:{draw(depth - 1)}|{draw(depth - 1)})"
        return f"({draw(depth - 1)})" + rng.choice(["*", "+", "?", "{2}", "{1,2}", "*?", ""])

    for _ in range(400):
        pattern = rng.choice(["", "(?i)", "(?s)", "(?m)"]) + draw(4)
        expected = re.compile(pattern, re.ASCII)
        texts = ["".join(rng.choice("abAB1 .\n-") for _ in range(rng.randint(0, 6))) for _ in range(8)]
        found = regex_full_match(words(*texts), pattern=pattern)
        assert found.tolist() == [bool(expected.fullmatch(t)) for t in texts], (pattern, texts)


def test_no_pattern_takes_exponential_time():
    start = time.perf_counter()
    assert not matches("(a+)+b", "a" * 3000)
    assert not matches("(a|aa)+$b", "a" * 3000)
    assert matches("(a?){100}a{100}", "a" * 100)
    assert time.perf_counter() - start < 5


# ---- n-grams -----------------------------------------------------------------------------------------------

POOL = {
    "ngram_counts": (0, 4),
    "ngram_indexes": (0, 1, 2, 3, 4, 5, 6),
    "pool_int64s": (2, 3, 5, 4, 5, 6, 7, 8, 6, 7),
    "mode": "TF",
}
TOKENS = np.array([1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8])


@pytest.mark.parametrize(
    ("least", "most", "skips", "expected"),
    [
        (2, 2, 0, [0, 0, 0, 0, 1, 1, 1]),
        (2, 2, 5, [0, 0, 0, 0, 1, 3, 1]),
        (1, 2, 0, [0, 3, 1, 0, 1, 1, 1]),
        (1, 2, 5, [0, 3, 1, 0, 1, 3, 1]),
        (1, 1, 5, [0, 3, 1, 0, 0, 0, 0]),
        (3, 3, 0, [0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_ngrams(least, most, skips, expected):
    limits = {"min_gram_length": least, "max_gram_length": most, "max_skip_count": skips}
    y = tf_idf_vectorizer(TOKENS, **POOL, **limits)
    assert y.dtype == np.float32
    assert y.tolist() == expected
    assert tf_idf_vectorizer(TOKENS.reshape(1, -1).astype(np.int32), **POOL, **limits).tolist() == [expected]
    names = {**POOL, "pool_int64s": None, "pool_strings": tuple(map(str, POOL["pool_int64s"]))}
    assert tf_idf_vectorizer(TOKENS.astype(str).astype(object), **names, **limits).tolist() == expected


def test_weights_belong_to_ngrams():
    limits = {"min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0}
    given = {"ngram_counts": (0,), "ngram_indexes": (2, 0), "pool_strings": ("a", "b"), "weights": (0.5, 4.0)}
    x = words("a", "b", "a", "c", "a")
    assert tf_idf_vectorizer(x, mode="TF", **given, **limits).tolist() == [1, 0, 3]
    assert tf_idf_vectorizer(x, mode="IDF", **given, **limits).tolist() == [4, 0, 0.5]
    assert tf_idf_vectorizer(x, mode="TFIDF", **given, **limits).tolist() == [4, 0, 1.5]
    without = {k: v for k, v in given.items() if k != "weights"}
    assert tf_idf_vectorizer(x, mode="IDF", **without, **limits).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "tf"}, "TF, IDF or TFIDF"),
        ({"pool_strings": ("a",)}, "one of pool_int64s and pool_strings"),
        ({"ngram_counts": (0, 99)}, "at most 10"),
        ({"ngram_indexes": (0, 1)}, "more than 2 n-grams"),
        ({"ngram_indexes": (0, 1, 2, 3, 4, 5, -1)}, "0 or greater"),
        ({"mode": "IDF", "weights": (1.0,)}, "1 weights for 7 n-grams"),
    ],
)
def test_wrong_ngram_attributes(changes, message):
    given = {**POOL, "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0, **changes}
    with pytest.raises(ValueError, match=message):
        tf_idf_vectorizer(TOKENS, **given)


# ---- image files -------------------------------------------------------------------------------------------

PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14


def as_bytes(data):
    return np.frombuffer(data, np.uint8)


def test_portable_images_need_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    color = as_bytes(b"P6 # a comment\n3 2\n255\n" + PIXELS.tobytes())
    np.testing.assert_array_equal(image_decoder(color), PIXELS)
    np.testing.assert_array_equal(image_decoder(color, pixel_format="BGR"), PIXELS[..., ::-1])
    gray = as_bytes(b"P5\n3 2\n255\n" + PIXELS[..., 0].tobytes())
    np.testing.assert_array_equal(image_decoder(gray, pixel_format="Grayscale"), PIXELS[..., :1])
    with pytest.raises(InputError, match="pip install pillow"):
        image_decoder(color, pixel_format="Grayscale")


def test_images_through_pillow(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for kind in ("png", "bmp", "tiff"):
        image.fromarray(PIXELS).save(tmp_path / f"x.{kind}")
        data = as_bytes((tmp_path / f"x.{kind}").read_bytes())
        np.testing.assert_array_equal(image_decoder(data), PIXELS)
        assert image_decoder(data, pixel_format="Grayscale").shape == (2, 3, 1)
        np.testing.assert_array_equal(image_decoder(data, pixel_format="BGR"), PIXELS[..., ::-1])
        assert image_decoder(data[:20]).shape == (0, 0, 3)
    assert image_decoder(as_bytes(b"not an image"), pixel_format="Grayscale").shape == (0, 0, 1)
    huge = b"P6 999999999 999999999 255\n"
    assert image_decoder(as_bytes(huge)).shape == (0, 0, 3)


def test_unknown_pixel_format():
    with pytest.raises(ValueError, match="one of RGB, BGR, Grayscale"):
        image_decoder(as_bytes(b""), pixel_format="rgb")
