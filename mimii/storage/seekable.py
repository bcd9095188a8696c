"""A file of known size that can be read from any position."""

import io


class SeekableFile(io.RawIOBase):
    """Keeps size, position and name; a subclass reads from there, with ``readinto``."""

    def __init__(self, size: int, name: str = "") -> None:
        self._size, self._position, self.name = size, 0, name

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, and return it; nothing is read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            msg = f"cannot seek to {start + offset}"
            raise OSError(msg)
        self._position = start + offset
        return self._position
