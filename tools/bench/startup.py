"""What a fresh process costs: imports, help, and load with a first prediction of a small model."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from .process import environment
from .rounds import Result, Settings

_OURS = """
import numpy as np, graphrt as gr
graph = gr.load({folder!r} + "/digits.grt")
out = gr.Session(graph).run({{"x": np.zeros((1, 64), np.float32)}})
"""
_ORT = """
import numpy as np, onnxruntime as ort
session = ort.InferenceSession({folder!r} + "/digits.onnx", providers=["CPUExecutionProvider"])
session.run(None, {{"x": np.zeros((1, 64), np.float32)}})
"""
_TORCH = """
import torch
from torch import nn
weights = torch.load({folder!r} + "/digits.pt", weights_only=True)
model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10), nn.Softmax(-1))
model.load_state_dict(weights)
with torch.inference_mode():
    model(torch.zeros(1, 64))
"""
_TORCH_FILE = """
import torch
from torch import nn
torch.save(nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10), nn.Softmax(-1)).state_dict(),
           {folder!r} + "/digits.pt")
"""
_JAX = """
import numpy as np, jax
w = np.load({folder!r} + "/digits.npz")
f = jax.jit(lambda x: jax.nn.softmax(jax.numpy.tanh(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]))
f(np.zeros((1, 64), np.float32)).block_until_ready()
"""

PROGRAMS = {
    "python": ("-c", "pass"),
    "import numpy": ("-c", "import numpy"),
    "import graphrt": ("-c", "import graphrt"),
    "graphrt --help": ("-m", "graphrt", "--help"),
    "first prediction": ("-c", _OURS),
    "first prediction, onnxruntime": ("-c", _ORT),
    "first prediction, torch": ("-c", _TORCH),
    "first prediction, jax": ("-c", _JAX),
}
"""What is started, by name."""


def write_digits(folder: Path) -> None:
    """The files of the small model: a 64-64-10 classifier, for each contender that there is."""
    import numpy as np

    import graphrt as gr

    graph = gr.models.mlp(64, [64], 10)
    gr.save(graph, folder / "digits.grt")
    np.savez(folder / "digits.npz", **graph.initializers)
    for save in (lambda: gr.save(graph, folder / "digits.onnx"), lambda: _call(("-c", _TORCH_FILE), folder, 1)):
        try:
            save()
        except Exception as e:
            print(f"bench: {e}", file=sys.stderr)


def measure_startup(settings: Settings) -> dict[str, Result]:
    """Seconds from start to end of each program, round by round; the first round only warms the disk's cache."""
    write_digits(settings.folder)
    results = {name: Result() for name in PROGRAMS}
    for turn in range(settings.rounds + 1):
        for name, program in PROGRAMS.items():
            result = results[name]
            if result.why:
                continue
            start = time.perf_counter()
            error = _call(program, settings.folder, settings.threads)
            taken = time.perf_counter() - start
            if error:
                result.why = error
            elif turn:
                result.turns.append(taken)
                result.calls, result.best = result.calls + 1, min(result.turns)
    return results


def _call(program: tuple[str, ...], folder: Path, threads: int) -> str:
    """Runs a program; the last line of what it said if it failed."""
    command = [sys.executable, *(p.format(folder=str(folder)) if "{folder" in p else p for p in program)]
    own = environment(threads)
    own.pop("PYTHONDONTWRITEBYTECODE", None)  # the first turn leaves every module compiled, as an installation does
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=own, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]
