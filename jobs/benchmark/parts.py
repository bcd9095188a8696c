"""The benchmark of recordings that are resampled, of all their channels, of segments: each against a librosa loop."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from jobs.benchmark.files import read_whole, write_lists
from jobs.benchmark.tables import tabulate_end_to_end
from jobs.benchmark.timing import time_featurize, time_module
from jobs.words import numbered
from mimii.recordings import Clip

_BASELINES = "jobs.benchmark.baselines"
_WAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "resampled": ("--sample-rate", "22050"),
        "channels": ("--channel", "all"),
        "segments": ("--segment", "1"),
    }
)


def compare_parts(clips: Sequence[Clip], n_workers: int, scratch: Path) -> None:
    """Time whole commands for each way, on the same recordings as the loop, and print them."""
    workers = numbered(n_workers, "worker")
    print(f"{numbered(len(clips), 'recording')}, {read_whole(clips)}, in the page cache; {workers}")
    paths, table = write_lists(clips, scratch)
    rows = scratch / "rows.pkl"
    for way, options in _WAYS.items():
        (folder := scratch / way).mkdir()
        listed = folder / "listed.json"
        listed.write_text(json.dumps({"paths": json.loads(paths.read_text()), "way": way}))
        timings = {
            "librosa loop, 1 process": time_module(_BASELINES, "parts", listed, rows, 1),
            "jobs.featurize": time_featurize(("--list", str(table), *options), folder, n_workers),
        }
        rows.unlink()
        print(f"\n{way}: {' '.join(options)}\n{tabulate_end_to_end(timings, len(clips))}", flush=True)
