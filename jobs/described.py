"""What the commands say of the features and of how recordings become clips."""

from collections.abc import Collection

from jobs.words import numbered
from mimii.features import ALL, FeatureSpec
from mimii.recordings import Catalogue

_ALWAYS = ("sample_rate", "channel", "n_fft", "hop_length", "n_mels", "frames", "power", "scale")


def describe_spec(spec: FeatureSpec, without: Collection[str] = ()) -> str:
    """Write the parameters, those that are seldom used only where they are."""
    usual, values = FeatureSpec().as_dict(), spec.as_dict()
    shown = [name for name in values if name in _ALWAYS or values[name] != usual[name]]
    return ", ".join(f"{name} {values[name]}" for name in shown if name not in without)


def describe_clips(catalogue: Catalogue) -> dict[str, str]:
    """Say how recordings became clips, and what the features do not tell."""
    level = "not in the features: dB are relative to each clip's maximum; other presets keep it"
    return describe_parts(catalogue) | ({"level": level} if catalogue.spec.is_deaf_to_level else {})


def describe_parts(catalogue: Catalogue) -> dict[str, str]:
    """Say how recordings became clips, where they are not clips as they are."""
    spec, rests, said = catalogue.spec, catalogue.rests, dict[str, str]()
    n_resampled = sum(
        bool(clip.header and n_rows and clip.header.sample_rate != spec.sample_rate)
        for clip, n_rows in zip(catalogue.clips, catalogue.n_rows.tolist(), strict=True)
    )
    if n_resampled:
        said["resampled"] = f"{numbered(n_resampled, 'clip')} to {spec.sample_rate} Hz"
    if spec.channel == ALL:
        most = len({clip.channel for clip in catalogue.clips})
        said["channels"] = f"each is a clip of its own, up to {most:,} of a recording"
    if spec.segment is not None:
        shared = f", {spec.overlap:g} s shared with the one before" if spec.overlap else ""
        left_out = f", {rests.n_left_out:,} too short for a row left out ({rests.left_out_s:.2f} s)"
        ends = f"; at the ends {numbered(rests.n_shorter, 'shorter one')}{left_out if rests.n_left_out else ''}"
        said["segments"] = f"of {spec.segment:g} s{shared}{ends}"
    return said
