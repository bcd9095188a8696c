"""SciPy's Fourier transform of real numbers, without all else that `scipy.fft` imports.

For arrays of other libraries it imports numpy.testing, numpy.f2py and scipy.special: together as long as NumPy and the
rest of what a process needs to compute features, and each worker, each child and each command would wait for it.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Transform = Callable[[NDArray[Any]], NDArray[Any]]

_FOLDER, _MODULE = "fft/_pocketfft", "scipy.fft._pocketfft.pypocketfft"
_NOT_NORMALIZED, _ONE_THREAD = 0, 1


def _import_compiled() -> Any:  # noqa: ANN401  a module
    """Import SciPy's compiled module by its place; None where this SciPy has none there."""
    if _MODULE in sys.modules:
        return sys.modules[_MODULE]
    scipy = importlib.util.find_spec("scipy")
    folders = [str(Path(folder) / _FOLDER) for folder in scipy.submodule_search_locations or ()] if scipy else []
    spec = PathFinder.find_spec(_MODULE, folders)
    if spec is None or spec.loader is None:
        return None
    with suppress(ImportError):
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[_MODULE] = module  # which `scipy.fft` takes, should it be imported later
        return module
    return None


def _choose() -> Transform:
    r2c = getattr(_import_compiled(), "r2c", None)
    if r2c is None:
        public: Transform = importlib.import_module("scipy.fft").rfft
        return public
    return lambda real: r2c(real, (-1,), True, _NOT_NORMALIZED, None, _ONE_THREAD)  # noqa: FBT003


rfft = _choose()
"""Transform the rows of an array, in its precision: what `scipy.fft.rfft` returns, to the bit."""
