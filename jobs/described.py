"""What the commands say of the features and of how recordings become clips."""

from mimii.features import ALL, FeatureSpec
from mimii.recordings import Catalogue

_ALWAYS = ("sample_rate", "channel", "n_fft", "hop_length", "n_mels", "frames", "power", "scale")


def describe_spec(spec: FeatureSpec) -> str:
    """Write the parameters, those that are seldom used only where they are."""
    usual = FeatureSpec().as_dict()
    shown = [f"{name} {value}" for name, value in spec.as_dict().items() if name in _ALWAYS or value != usual[name]]
    return ", ".join(shown)


def describe_clips(catalogue: Catalogue) -> dict[str, str]:
    """Say how recordings became clips, and what the features do not tell."""
    spec, rests, said = catalogue.spec, catalogue.rests, dict[str, str]()
    n_resampled = sum(
        bool(clip.header and n_rows and clip.header.sample_rate != spec.sample_rate)
        for clip, n_rows in zip(catalogue.clips, catalogue.n_rows.tolist(), strict=True)
    )
    if n_resampled:
        said["resampled"] = f"{n_resampled:,} clips to {spec.sample_rate} Hz"
    if spec.channel == ALL:
        said["channels"] = f"each is a clip: {len({clip.channel for clip in catalogue.clips}):,} of them"
    if spec.segment is not None:
        left_out = f", {rests.n_left_out:,} too short for a row left out ({rests.left_out_s:.2f} s)"
        ends = f"; of the ends, {rests.n_shorter:,} are shorter clips{left_out if rests.n_left_out else ''}"
        said["segments"] = f"of {spec.segment:g} s, {spec.overlap:g} s shared with the one before{ends}"
    if spec.is_deaf_to_level:
        said["level"] = "not in the features: dB are below each clip's own maximum; other presets keep it"
    return said
