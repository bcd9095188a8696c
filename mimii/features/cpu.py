"""Which kernels of BLAS and NumPy compute here: they are chosen by the kind of CPU, and decide the last digits.

The same recordings give the same bytes on CPUs of one kind; of two kinds, 5 to 50 % of the values differ, and
are within 2e-5 dB. Versions of Python and NumPy make no difference.
"""

from functools import cache

import numpy as np
import threadpoolctl

SAME_EVERYWHERE = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
}
"""The environment of workers that gives the same bytes on every x86-64 CPU with AVX2, of Intel or AMD."""


@cache
def kernels_here() -> str:
    """Return the kernels that compute features in this process, such as ``openblas SkylakeX, numpy X86_V4``."""
    np.ones((2, 2)) @ np.ones((2, 2))  # a library that is loaded late is seen
    libraries = threadpoolctl.threadpool_info()
    of_numpy = sorted(libraries, key=lambda found: "numpy" not in found["filepath"])
    blas = next((found for found in of_numpy if found["user_api"] == "blas"), None)
    name = f"{blas['internal_api']} {blas.get('architecture') or blas['version']}" if blas else "an unknown BLAS"
    return f"{name}, numpy {_target('log10')}"


def _target(function: str) -> str:
    """Return which set of instructions a function of NumPy uses for float32."""
    found = np.lib.introspect.opt_func_info(func_name=f"^{function}$", signature="float32")
    targets = sorted({target["current"] for kinds in found.values() for target in kinds.values()})
    return " ".join(targets) or "without choice"
