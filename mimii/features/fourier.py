"""SciPy's Fourier transform of real numbers, without all else that `scipy.fft` imports.

For arrays of other libraries it imports numpy.testing, numpy.f2py and scipy.special: together as long as NumPy and the
rest of what a process needs to compute features, and each worker, each child and each command would wait for it.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Transform = Callable[[NDArray[Any]], NDArray[Any]]

_COMPILED = ("scipy.fft._duccfft.pyduccfft", "scipy.fft._pocketfft.pypocketfft")
"""SciPy's module since 1.18, and before."""

_NOT_NORMALIZED, _ONE_THREAD = 0, 1


def _import_compiled(name: str) -> ModuleType | None:
    """Import a module of SciPy by its place, and none of the packages that it is in; None where it is not there."""
    if name in sys.modules:
        return sys.modules[name]
    package, *inner, _ = name.split(".")
    found = importlib.util.find_spec(package)
    places = [str(Path(place, *inner)) for place in found.submodule_search_locations or ()] if found else []
    spec = PathFinder.find_spec(name, places)
    if spec is None or spec.loader is None:
        return None
    with suppress(ImportError):
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module  # which `scipy.fft` takes, should it be imported later
        return module
    return None


def _choose(compiled: Iterable[str] = _COMPILED) -> Transform:
    """Return the transform of the first module that has it as it is known here, else SciPy's public one."""
    for module in filter(None, map(_import_compiled, compiled)):
        if (r2c := getattr(module, "r2c", None)) and _is_right(transform := partial(_transform_rows, r2c)):
            return transform
    public: Transform = importlib.import_module("scipy.fft").rfft
    return public


def _transform_rows(r2c: Callable[..., NDArray[Any]], real: NDArray[Any]) -> NDArray[Any]:
    return r2c(real, (-1,), True, _NOT_NORMALIZED, None, _ONE_THREAD)  # noqa: FBT003


def _is_right(transform: Transform) -> bool:
    """Say whether the spectrum of an impulse is 1 everywhere: a later SciPy may take other arguments."""
    with suppress(TypeError, ValueError):
        return np.array_equal(transform(np.eye(1, 4)), np.ones((1, 3)))
    return False


rfft = _choose()
"""Transform the rows of an array, in its precision: what `scipy.fft.rfft` returns, to the bit."""
