"""``graphrt run``: run a model on arrays."""

from __future__ import annotations

import argparse
import zipfile
from typing import Any, BinaryIO

import numpy as np

from graphrt.cli.inputs import choose_names, fit_inputs, read_graph
from graphrt.cli.output import number, print_json
from graphrt.cli.points import read_inputs
from graphrt.cli.usage import UsageError
from graphrt.format.atomic import write_atomically
from graphrt.runtime.profile import Profiler
from graphrt.runtime.session import Session
from graphrt.types import TensorType


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        "examples:\n  graphrt run model.grt --input x=images.npy --output out.npz\n"
        "  graphrt run model.grt --data inputs.npz --json\n  graphrt run model.json --input x=[[1,2]]"
    )
    parser.add_argument("model", metavar="FILE", help="a model file; - is standard input")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=VALUE", help="a .npy file, a number, or a JSON list"
    )
    parser.add_argument("--data", metavar="FILE.npz", help="inputs by name; arrays that are no inputs are passed over")
    parser.add_argument("--output", metavar="FILE", help="write the outputs to an .npz (or, if it is one, .npy) file")
    parser.add_argument("--fetch", action="append", metavar="NAME", help="values wanted (default: the outputs)")
    parser.add_argument("--mode", choices=["infer", "train"], default="infer", help="default: infer")
    parser.add_argument("--seed", type=int, default=0, help="of random ops")
    parser.add_argument("--profile", metavar="FILE.json", help="write when each node ran, for chrome://tracing")
    parser.add_argument("--json", action="store_true", help="print the outputs as JSON: {name: nested lists}")


def run(args: argparse.Namespace) -> int:
    """Prints or writes the outputs."""
    graph = read_graph(args.model)
    if args.output and not args.output.lower().endswith((".npz", ".npy")):
        raise UsageError(f"--output {args.output}: its suffix is .npz or .npy")
    profiler = Profiler()
    session = Session(graph, mode=args.mode, seed=args.seed, observers=[profiler] if args.profile else [])
    wanted = choose_names(args.fetch, sorted(graph.names())) if args.fetch else None
    given = read_inputs([], args.data)
    declared = set(graph.input_names)
    inputs = {k: v for k, v in given.items() if k in declared} | read_inputs(args.input, None)
    feeds = fit_inputs(graph, inputs)
    profiler.begin()
    outputs = session.run(feeds, wanted)
    if args.profile:
        save_trace(args.profile, profiler)
    if args.output:
        save_arrays(args.output, outputs)
    if args.json:
        print_json(outputs)
    elif not args.output:
        for name, array in outputs.items():
            kind = f": {TensorType.of(array)}" if isinstance(array, np.ndarray) else ""
            print(f"{name}{kind} =\n{number(array) if isinstance(array, np.ndarray) else array}")
    return 0


def save_trace(path: str, profiler: Profiler) -> None:
    """Writes a profiler's events, whole or not at all."""

    def write(out: BinaryIO) -> None:
        out.write(profiler.trace_text().encode())

    write_atomically(path, write)


def save_arrays(path: str, arrays: dict[str, Any]) -> None:
    """Writes arrays to an ``.npz`` file, or the only one to an ``.npy`` file, whole or not at all."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UsageError(f"the output {name!r} is no array and cannot be written to {path}; use --json")
    if path.lower().endswith(".npy") and len(arrays) != 1:
        raise UsageError(f"{path} holds one array, and there are {len(arrays)}: use .npz, or --fetch one")

    def write(out: BinaryIO) -> None:
        if path.lower().endswith(".npy"):
            _write_array(out, *arrays.values())
            return
        with zipfile.ZipFile(out, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    _write_array(entry, array)

    write_atomically(path, write)


def _write_array(out: Any, array: np.ndarray[Any, Any]) -> None:
    text = array.astype(str) if array.dtype == object else array
    np.lib.format.write_array(out, text, allow_pickle=False)
