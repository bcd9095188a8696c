"""Commands: ``python -m jobs.featurize`` and its companions. Thin wiring around the ``mimii`` package."""
