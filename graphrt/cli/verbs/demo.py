"""``graphrt demo``: a classifier of handwritten digits, from an untrained file to predictions."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt import models
from graphrt.cli.inputs import read_graph
from graphrt.cli.output import print_json
from graphrt.cli.usage import UsageError
from graphrt.cli.verbs.inspect import describe
from graphrt.cli.verbs.run import save_arrays
from graphrt.errors import GraphrtError
from graphrt.io import save
from graphrt.runtime.session import Session
from graphrt.train.data import Dataset

HIDDEN, ACTIVATION, NORMALIZE = (512,), "relu", (8.0, 8.0)
SETTINGS = {"optimizer": "adam", "schedule": "cosine", "lr": 3e-3, "l2": 1e-3, "batch-size": 64, "epochs": 15}
"""Chosen by the mean accuracy on validation sets of ten splits; test sets took no part in it."""
PARTS = {"train": 0.7, "validation": 0.1, "test": 0.2}
_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_SHADES = " .:-=+*#%@"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "needs scikit-learn, which brings the 1,797 images\nexample:\n  graphrt demo --folder digits"
    parser.add_argument("--folder", metavar="DIR", help="where the files go (default: a new temporary folder)")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights, the order of examples")
    parser.add_argument("--epochs", type=int, default=SETTINGS["epochs"], metavar="N", help="default: 15")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Builds, saves, trains in a new process, loads again, predicts."""
    if args.seed < 0 or args.epochs < 0:
        raise UsageError("--seed and --epochs are 0 or more")
    began = time.perf_counter()
    say = _silent if args.json else _print_now
    parts = load_parts(args.seed)
    folder = args.folder or tempfile.mkdtemp(prefix="graphrt-demo-")
    os.makedirs(folder, exist_ok=True)
    paths = {name: os.path.join(folder, f"{name}.npz") for name in parts}
    for name, part in parts.items():
        save_arrays(paths[name], dict((augmented(part) if name == "train" else part).arrays))
    untrained, trained = (os.path.join(folder, f"{name}.grt") for name in ("digits", "trained"))
    graph = models.mlp(64, HIDDEN, 10, activation=ACTIVATION, normalize=NORMALIZE, seed=args.seed, name="digits")
    save(graph, untrained)
    say(f"built {untrained}: {describe(graph)['parameters']:,} parameters\n{graph}\n")
    counts = ", ".join(f"{len(p)} {n}" for n, p in parts.items())
    say(f"images: {counts}; the training images also moved by half a pixel in eight directions\n")
    figures = _train(args, untrained, trained, paths, say)
    figures["train"] = _accuracy(trained, parts["train"])
    say("\naccuracy: " + "  ".join(f"{n} {figures[n]:.4f}" for n in parts))
    shown = _predictions(trained, parts["test"])
    seconds = time.perf_counter() - began
    if args.json:
        print_json({"folder": folder, "model": trained, "accuracy": figures, "predictions": shown, "seconds": seconds})
    else:
        print(f"\nloaded {trained} again; the first test images:\n\n{draw(parts['test']['x'][:5], shown)}")
        print(f"\n{seconds:.1f} s; the files are in {folder}")
    return 0


def load_parts(seed: int) -> dict[str, Dataset]:
    """Scikit-learn's digits, split at random with equal proportions of each digit.

    Raises:
        GraphrtError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as e:
        raise GraphrtError("the demo needs scikit-learn for its images: pip install scikit-learn") from e
    digits: Any = load_digits()
    data = Dataset({"x": digits.data.astype(np.float32), "y": digits.target.astype(np.int64)})
    return dict(zip(PARTS, data.split(list(PARTS.values()), seed, "y"), strict=True))


def augmented(part: Dataset) -> Dataset:
    """The images, and copies moved by half a pixel in eight directions."""
    images = part["x"].reshape(-1, 8, 8)
    stack = [images, *((images + _moved(images, by)) / 2 for by in _DIRECTIONS)]
    return Dataset({"x": np.concatenate(stack).reshape(-1, 64), "y": np.tile(part["y"], len(stack))})


def _moved(images: np.ndarray[Any, Any], by: tuple[int, int]) -> np.ndarray[Any, Any]:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return np.roll(padded, by, (1, 2))[:, 1:-1, 1:-1]


def _print_now(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """Says nothing."""


def _train(
    args: argparse.Namespace, model: str, out: str, paths: dict[str, str], say: Callable[[str], None]
) -> dict[str, float]:
    """Runs ``graphrt train`` in a new process; accuracies of validation and test sets by name."""
    settings = {**SETTINGS, "epochs": args.epochs, "seed": args.seed}
    command = ["train", model, paths["train"], "--validation", paths["validation"], "--test", paths["test"]]
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))] + ["--out", out]
    say("in a new process: graphrt " + " ".join(command))
    home = os.path.dirname(os.path.dirname(os.path.abspath(models.__file__)))
    search = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    bar = ["--no-progress"] if args.no_progress else []
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # more only slow such small products down
    done = subprocess.run(
        [sys.executable, "-m", "graphrt", *command, "--json", *bar],
        stdout=subprocess.PIPE,
        env={**one_thread, **os.environ, "PYTHONPATH": search},
        check=False,
    )
    if done.returncode:
        raise GraphrtError(f"the training process ended with exit code {done.returncode}")
    result = json.loads(done.stdout)
    return {name: float(result[name]["accuracy"]) for name in PARTS}


def _accuracy(path: str, part: Dataset) -> float:
    out = Session(read_graph(path)).run({"x": part["x"]})["probabilities"]
    return float(np.mean(out.argmax(axis=1) == part["y"]))


def _predictions(path: str, part: Dataset, count: int = 5) -> list[dict[str, Any]]:
    out = Session(read_graph(path)).run({"x": part["x"][:count]})["probabilities"]
    return [
        {"digit": int(y), "predicted": int(p.argmax()), "probability": float(p.max())}
        for p, y in zip(out, part["y"], strict=False)
    ]


def draw(images: np.ndarray[Any, Any], predictions: list[dict[str, Any]]) -> str:
    """Images side by side in shades of characters, each with its prediction beneath.

    Args:
        images: float [n, 64], 0 to 16.
        predictions: for each image ``digit``, ``predicted``, ``probability``.
    """
    levels = np.clip(images.reshape(-1, 8, 8) / 16 * (len(_SHADES) - 1), 0, len(_SHADES) - 1).astype(int)
    rows = ["    ".join("".join(_SHADES[v] * 2 for v in image[r]) for image in levels) for r in range(8)]
    verdicts = ("right" if p["predicted"] == p["digit"] else f"is {p['digit']}" for p in predictions)
    captions = [f"{p['predicted']} ({p['probability']:.0%}) {v}" for p, v in zip(predictions, verdicts, strict=True)]
    return "\n".join([*rows, "    ".join(f"{c:<16}" for c in captions)])
