"""Names and units of a table that was opened, for plots: nothing of it is in the store, and nothing is read for it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from mimii.features import FeatureSpec, band_centres, feature_frequencies, feature_offsets

if TYPE_CHECKING:
    import xarray

_HZ, _S, _DB = {"units": "Hz"}, {"units": "s"}, {"units": "dB"}
_ATTRIBUTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "features": {"long_name": "mel spectrogram", **_DB},
        "feature_mean": {"long_name": "mean over rows", **_DB},
        "feature_std": {"long_name": "standard deviation over rows", **_DB},
        "mel_mean": {"long_name": "mean over the clip", **_DB},
        "mel_std": {"long_name": "standard deviation over the clip", **_DB},
        "mel_max": {"long_name": "maximum over the clip", **_DB},
        "mel_frequency": {"long_name": "centre of the mel band", **_HZ},
        "start_s": {"long_name": "start in the recording", **_S},
        "duration_s": {"long_name": "duration", **_S},
        "snr_db": {"long_name": "signal-to-noise ratio", **_DB},
    }
)


def with_axes(table: "xarray.Dataset", spec: FeatureSpec) -> "xarray.Dataset":
    """Return a table with a coordinate in Hz for mel bands, and in s and Hz for features, and with units."""
    frequency = {"long_name": "frequency", **_HZ}
    offset = {"long_name": "time after the first frame of the row", **_S}
    coordinates = {
        "mel": ("mel", band_centres(spec), frequency),
        "feature_frequency": ("feature", feature_frequencies(spec), frequency),
        "feature_offset_s": ("feature", feature_offsets(spec), offset),
    }
    fitting = {
        name: one
        for name, one in coordinates.items()
        if name not in table.variables and table.sizes.get(one[0]) == len(one[1])
    }
    named = table.assign_coords(fitting)
    for name in _ATTRIBUTES.keys() & named.variables.keys():
        named[name].attrs = dict(_ATTRIBUTES[name]) | named[name].attrs
    return named
