"""Samples to rows: decode, mel spectrogram, dB, stacked frames. Pure functions, right to 1e-3 dB of librosa.

`spec` says what is computed. `decode` reads one channel: `containers` knows where the samples are, `sndfile` decodes
them. `recording` decodes the clips of one recording together: segments, channels. `resampling` changes the sample rate.
`mel` and `scales` have the kernels. `loading` holds what becomes of a clip on its way: its samples, its spectrogram, or
the reason why it failed. `children` are processes that read recordings and may die of them; `messages` gives what
decoders print to the log.

It may import `mimii.storage`. Other rooms may use what ``__init__.pyi`` lists.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
