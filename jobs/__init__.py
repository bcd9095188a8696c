"""Commands: ``python -m jobs.featurize`` and its companions. Thin wiring around the ``mimii`` package."""

from jobs import process as process  # before anything else is imported: Ctrl-C is to end imports without a traceback
