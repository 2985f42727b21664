"""Special functions as graphrt ops, in the domain ``graphrt.special``."""

from __future__ import annotations

from collections.abc import Iterable

from graphrt.plugin import OpModule, hookimpl

FAMILIES = {
    "gamma": "Gamma LGamma Digamma Trigamma Beta LBeta GammaP GammaQ",
    "error": "Erfc Erfcx ErfInv ErfcInv NormalCdf LogNormalCdf Probit",
    "bessel": "J0 J1 Y0 Y1 I0 I1 I0e I1e",
    "other": "Expi Sinc Spence LambertW XLogY Entropy",
}
"""The modules of this package that define ops, and the names of these (see `OpModule`)."""


@hookimpl
def graphrt_register_ops() -> Iterable[OpModule]:
    """All ops of this package; SciPy is imported when one is first used."""
    return [OpModule(f"{__name__}.{module}", names, domain="graphrt.special") for module, names in FAMILIES.items()]
