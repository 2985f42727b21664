"""Starting workers and talking with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .contenders import Unable

ROOT = Path(__file__).resolve().parents[2]
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables that change what NumPy's BLAS does; the workers run without them."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


PLUGINS = {"graphrt": "onnx,special", "graphrt+numba": "onnx,special,numba"}
"""Which plug-ins a contender of ours works with."""


def environment(threads: int, name: str = "graphrt") -> dict[str, str]:
    """The environment of a worker."""
    kept = {k: v for k, v in os.environ.items() if k not in UNSET} | {"GRAPHRT_PLUGINS": PLUGINS.get(name, "")}
    return kept | dict.fromkeys(THREADS, str(threads)) | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}


def cpus(threads: int) -> list[int]:
    """The CPUs that every contender is kept on: as many as it has threads."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return allowed[-threads:]


def python_for(name: str) -> str:
    """The interpreter of a contender: onnxruntime-training has an environment of its own.

    Raises:
        Unable: there is no such environment.
    """
    if name != "onnxruntime-training":
        return sys.executable
    found = ROOT / ".venv-bench-ort" / "bin" / "python"
    if not found.exists():
        raise Unable("there is no .venv-bench-ort: run make bench")
    return str(found)


class Process:
    """A worker process, started on the first command."""

    def __init__(self, name: str, threads: int, folder: Path, log: Any = subprocess.DEVNULL):
        self.name, wanted = name, cpus(threads)
        command = [python_for(name), "-m", "tools.bench.worker", name, str(threads), str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT,
            env=environment(threads, name),
        )  # fmt: skip
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, wanted)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer.

        Raises:
            Unable: the contender cannot do that.
            RuntimeError: it failed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": f"the process ended ({self._process.poll()})"}
        if "error" in answer:
            raise (Unable if answer.get("unable") else RuntimeError)(answer["error"])
        return dict(answer)

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
