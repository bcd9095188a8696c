"""Recordings to spectrogram images, with the manifests that vision pipelines read.

An album is the plan: which images there will be of a catalogue of clips, in which style, and which task renders which.
A task loads its clips, computes mel and dB, and writes PNG or JPEG files and a record. When all tasks are done, an
overview, a list of all images and manifests follow; a check compares images and manifests with the limits of a vision
service. Only this room imports matplotlib and Pillow; others take pictures of spectrograms from it. It may import
`mimii.table`, `mimii.engine`, `mimii.recordings`, `mimii.features` and `mimii.storage`. ``__init__.pyi`` lists the
names that others may use; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
