"""Which machines sound abnormal: models of normal sound, scores of clips, and how well these separate faults.

Of each machine in a table of features, a model is trained on its normal clips; the clips for testing are scored by it,
and the scores are evaluated where labels are known. One task trains and evaluates one machine; a report page shows
AUCs, curves and the clips that were misjudged. Another task scores new recordings by models of an earlier run. Only
this room imports scikit-learn and Jinja. It may import `mimii.images` (for figures), `mimii.table`, `mimii.engine`,
`mimii.recordings`, `mimii.features` and `mimii.storage`. ``__init__.pyi`` lists the names that others may use; each is
imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
