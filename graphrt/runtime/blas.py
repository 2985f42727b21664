"""The BLAS that NumPy runs on: what it is, how many threads it has, and what NumPy does not call itself.

`axpy` and `axpby` update an array in one pass through memory where NumPy takes two and three; they are looked up in the
OpenBLAS that comes in NumPy's wheels, and are None where there is another BLAS.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

_PREFIXES = ("scipy_openblas_", "openblas_")
_SUFFIXES = ("64_", "")
_AVX2_KERNELS = frozenset({"HASWELL", "ZEN", "EXCAVATOR", "SANDYBRIDGE", "NEHALEM", "PRESCOTT", "CORE2"})
_VARIABLES = ("OPENBLAS_", "OMP_", "MKL_", "BLIS_", "VECLIB_", "GOTO_")


def blas_facts() -> dict[str, Any]:
    """Library, version, kernel and number of threads (None where they cannot be told), variables, warnings."""
    built = np.show_config("dicts")["Build Dependencies"]["blas"]
    library = _openblas()
    kernel = _call(library, "get_corename", ctypes.c_char_p)
    variables = {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)}
    return {
        "library": str(built.get("name", "unknown")),
        "version": str(built.get("version", "")),
        "kernel": kernel.decode() if kernel else None,
        "threads": _call(library, "get_num_threads", ctypes.c_int),
        "variables": variables,
        "warnings": kernel_warnings(variables.get("OPENBLAS_CORETYPE"), has_avx512()),
    }


def kernel_warnings(forced: str | None, avx512: bool) -> list[str]:
    """What is unwise about a forced OpenBLAS kernel.

    >>> len(kernel_warnings("Haswell", avx512=True)), kernel_warnings("SkylakeX", avx512=True)
    (1, [])
    """
    if forced and forced.upper() in _AVX2_KERNELS and avx512:
        return [
            f"OPENBLAS_CORETYPE={forced} forces a kernel without AVX-512 on a CPU that has it; "
            "matrix products may take twice as long: unset it"
        ]
    return []


def has_avx512() -> bool:
    """Whether the CPU has AVX-512, as far as NumPy can tell."""
    found = np.show_config("dicts").get("SIMD Extensions", {}).get("found", [])
    return any("AVX512" in name or name in ("X86_V4", "X86_64_V4") for name in found)


@cache
def axpby(dtype: str) -> Callable[..., None] | None:
    """``axpby(n, a, x, 1, b, y, 1)``: y = a x + b y for n elements at the addresses x and y; float32 and float64."""
    real = _REALS[dtype]
    return _function(f"cblas_{_LETTER[dtype]}axpby", (real, _VECTOR, _INTEGER, real, _VECTOR, _INTEGER))


@cache
def axpy(dtype: str) -> Callable[..., None] | None:
    """``axpy(n, a, x, 1, y, 1)``: y = y + a x for n elements at the addresses x and y; float32 and float64."""
    real = _REALS[dtype]
    return _function(f"cblas_{_LETTER[dtype]}axpy", (real, _VECTOR, _INTEGER, _VECTOR, _INTEGER))


_VECTOR, _INTEGER = ctypes.c_void_p, ctypes.c_int64
_REALS = {"float32": ctypes.c_float, "float64": ctypes.c_double}
_LETTER = {"float32": "s", "float64": "d"}


def _function(name: str, arguments: tuple[Any, ...]) -> Callable[..., None] | None:
    """A function of the OpenBLAS with 64-bit integers, whose first argument is a length."""
    found = _symbol(name)
    if found is not None:
        found.restype, found.argtypes = None, (_INTEGER, *arguments)
    return found  # type: ignore[no-any-return]


def _symbol(name: str) -> Any:
    """A function by its name without the prefix and suffix of a build with 64-bit integers; None where it is not."""
    library = _openblas()
    for prefix in _PREFIXES if library is not None else ():
        found = getattr(library, prefix.removesuffix("openblas_") + name + "64_", None)
        if found is not None:
            return found
    return None


@cache
def thread_functions() -> tuple[Callable[[], int], Callable[[int], Any]]:
    """The functions that get and set the number of threads; where there is no OpenBLAS, one thread and nothing."""
    library = _openblas(ctypes.PyDLL)  # calls that keep the interpreter's lock: they are short
    for prefix in _PREFIXES if library is not None else ():
        for suffix in _SUFFIXES:
            names = f"{prefix}get_num_threads{suffix}", f"{prefix}set_num_threads{suffix}"
            if all(hasattr(library, n) for n in names):
                return getattr(library, names[0]), getattr(library, names[1])
    return lambda: 1, lambda count: None


@cache
def _openblas(load: Callable[[str], Any] = ctypes.CDLL) -> Any:
    """The OpenBLAS that came with NumPy, which is loaded already; None where there is none."""
    import glob

    folder = os.path.join(os.path.dirname(np.__path__[0]), "numpy.libs")
    packed = os.path.join(np.__path__[0], ".dylibs")
    for path in sorted(glob.glob(os.path.join(folder, "*openblas*")) + glob.glob(os.path.join(packed, "*openblas*"))):
        try:
            return load(path)
        except OSError:
            continue
    return None


def _call(library: Any, name: str, result: Any) -> Any:
    """Calls a function without arguments under the first of its names that the library has."""
    for function in (f"{p}{name}{s}" for p in _PREFIXES for s in _SUFFIXES):
        found = getattr(library, function, None) if library is not None else None
        if found is not None:
            found.restype, found.argtypes = result, []
            return found()
    return None
