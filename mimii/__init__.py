"""From recordings of machines to features, images and findings.

Everything that users need is here, and is imported when it is used::

    clips = mimii.find_recordings("data/raw")
    plan = mimii.plan_table(clips, mimii.FeatureSpec.preset("explore"))
    mimii.featurize(plan, "features.zarr")
    table = mimii.open_table("features.zarr")

Below are eight rooms, each with one job; docs/architecture.md shows the house.
"""

import lazy_loader

from mimii._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
