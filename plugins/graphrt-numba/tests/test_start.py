"""numba is imported when there is something to compile, not before; what was compiled is found by the next process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, numpy as np
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.session import Session
b = GraphBuilder("test")
b.output(b.Tanh(b.Sigmoid(b.input("x", "float32", [{n}]))), "y")
print(Session(b.build()).run({{"x": np.zeros({n}, np.float32)}})["y"][0] > 0.46, "numba" in sys.modules)
if "numba" in sys.modules:
    loops = [l.dispatcher.stats for l in __import__("gc").get_objects() if type(l).__name__ == "Loop"]
    print(*(sum(sum(getattr(s, what).values()) for s in loops) for what in ("cache_hits", "cache_misses")))
"""


def run(n, folder):
    program = PROGRAM.format(n=n)
    made = subprocess.run(
        [sys.executable, "-c", program],
        env={"NUMBA_CACHE_DIR": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert not made.returncode, made.stderr
    return made.stdout.split()


def test_small_models_do_not_import_numba(tmp_path):
    assert run(8, tmp_path) == ["True", "False"]


def test_training_a_small_model_does_not_import_numba(tmp_path):
    program = """
import sys, numpy as np, graphrt as gr
b = gr.GraphBuilder("small")
x = b.input("x", "float32", ["n", 64])
x = b.Tanh(b.Gemm(x, b.parameter("w", np.ones((64, 32), "f")), b.parameter("b", np.ones(32, "f"))))
b.output(b.Gemm(x, b.parameter("v", np.ones((32, 10), "f"))), "y")
trainer = gr.Trainer(b.build(), "softmax_cross_entropy", gr.optim.SGD(0.1))
trainer.step({"x": np.ones((32, 64), "f"), "y": np.zeros(32, np.int64)})
print("numba" in sys.modules)
"""
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert made.stdout == "False\n", made.stderr


def test_a_small_convolution_does_not_import_numba():
    program = """
import sys, numpy as np, graphrt as gr
b = gr.GraphBuilder("small")
b.output(b.Conv(b.input("x", "float32", [1, 3, 16, 16]), b.parameter("w", np.ones((8, 3, 3, 3), "f"))), "y")
gr.Session(b.build()).run({"x": np.ones((1, 3, 16, 16), "f")})
print("numba" in sys.modules)
"""
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert made.stdout == "False\n", made.stderr


def test_the_second_process_compiles_nothing(tmp_path):
    *_, hits, misses = run(100_000, tmp_path)
    assert hits == "0" and misses != "0"
    assert run(100_000, tmp_path)[-2:] == [misses, "0"]


def test_a_folder_that_cannot_be_written_to_is_done_without(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run(100_000, blocked)[:2] == ["True", "True"]


def test_a_damaged_cache_is_done_without(tmp_path):
    run(100_000, tmp_path)
    for path in tmp_path.glob("*.nbc"):
        path.write_bytes(b"damaged")
    assert run(100_000, tmp_path)[:2] == ["True", "True"]
