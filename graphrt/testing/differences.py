"""Directional derivatives by central differences with Richardson extrapolation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = (1e-3, 1e-4, 1.5e-2, 1e-5, 1e-6)
"""First the step that suits values of size 1; others where a kink or a pole is near, or the function is flat."""


def mismatch(function: Callable[[float], Any], derivative: Any, rtol: float, atol: float) -> tuple[float, Any] | None:
    """Compares an analytic directional derivative with differences of ``function(h)`` at zero.

    Args:
        function: the array-valued function along the direction; may give NaN outside its domain.
        derivative: float64 [...]; what its derivative at 0 should be.
        rtol: allowed relative error of each element.
        atol: allowed error as a part of the largest element.

    Returns:
        None where some step agrees; else the worst error and the differences that came closest.
    """
    best: tuple[float, Any] | None = None
    center = np.asarray(function(0.0), np.float64)
    size = float(np.max(np.abs(center), initial=0.0))
    for h in STEPS:
        with np.errstate(all="ignore"):
            estimate = _richardson(function, h)
            error = np.abs(estimate - derivative)
            scale = max(float(np.max(np.abs(derivative), initial=0.0)), float(np.max(np.abs(estimate), initial=0.0)))
            rounding = 8 * np.finfo(np.float64).eps / h * np.maximum(np.abs(center), 1e-3 * size)
            excess = error - rtol * np.abs(derivative) - min(atol, h) * scale - rounding
        if not np.all(np.isfinite(estimate)):
            continue
        if np.all(excess <= 0):
            return None
        worst = float(np.max(error))
        if best is None or worst < best[0]:
            best = worst, estimate
    return best or (float("inf"), np.full_like(center, np.nan))


def _richardson(function: Callable[[float], Any], h: float) -> Any:
    def central(h: float) -> Any:
        return (np.asarray(function(h), np.float64) - np.asarray(function(-h), np.float64)) / (2 * h)

    return (4 * central(h / 2) - central(h)) / 3
