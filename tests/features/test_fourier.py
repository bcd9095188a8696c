"""The transform: SciPy's to the bit, from SciPy's own compiled module, in any order of imports."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.fft

from mimii.features import fourier
from tests.helpers.commands import environment


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_fft", [2, 100, 400, 1000, 1023, 2048])
def test_it_is_scipys_to_the_bit(n_fft, dtype):
    real = np.random.default_rng(n_fft).standard_normal((7, n_fft)).astype(dtype)
    ours, theirs = fourier.rfft(real), scipy.fft.rfft(real)
    assert ours.dtype == theirs.dtype == np.result_type(dtype, np.complex64)
    assert ours.tobytes() == theirs.tobytes()


def test_what_it_is_given_stays_as_it_is():
    real = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    before = real.copy()
    fourier.rfft(real)
    assert np.array_equal(real, before)


SAME = "import numpy; x = numpy.arange(12.0).reshape(3, 4); assert numpy.array_equal(rfft(x), scipy.fft.rfft(x))"


@pytest.mark.parametrize(
    "script",
    [
        "from mimii.features.fourier import rfft; import scipy.fft; " + SAME,
        "import scipy.fft; from mimii.features.fourier import rfft; " + SAME,
        "import mimii.features.mel, sys; assert not {'scipy.fft', 'scipy.special', 'numpy.f2py'} & set(sys.modules)",
    ],
)
def test_it_is_imported_in_any_order_and_alone_without_the_rest(script):
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True)


MODULES = {
    "broken": "import a_module_that_is_not_there",
    "without": "c2c = None",
    "with_other_arguments": "def r2c(real): return real",
    "normalized": "import scipy.fft\ndef r2c(real, *_): return scipy.fft.rfft(real, norm='forward')",
}


@pytest.mark.parametrize("name", ["missing", *MODULES])
def test_where_scipy_has_no_such_module_its_public_function_is_used(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / f"other_{name}"
    folder.mkdir()
    for module, text in MODULES.items():
        (folder / f"{module}.py").write_text(text)
    assert fourier._choose([f"other_{name}.{name}", "none.at_all"]) is scipy.fft.rfft
