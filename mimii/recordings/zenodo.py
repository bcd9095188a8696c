"""The archives of the MIMII data set as published on Zenodo: names, sizes, checksums."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from mimii.storage import did_you_mean

RECORD = "https://zenodo.org/records/3384388"
BASE_URL = f"{RECORD}/files"
MACHINE_TYPES = ("fan", "pump", "slider", "valve")
SNRS = (-6, 0, 6)
_NAME = re.compile(r"(?P<sign>-|min_?|minus_?|\+)?(?P<size>[06])_?db(_(?P<type>[a-z]+))?(\.zip)?")


class NameOfArchiveError(ValueError):
    """A name that no archive has; the message lists those there are."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One zip file.

    Attributes
    ----------
    md5 : str
        Checksum, in hexadecimal.
    size : int or None
        Bytes; None where only the server knows.

    """

    snr_db: int
    machine_type: str
    md5: str
    size: int | None = None

    @property
    def name(self) -> str:
        """Such as ``6_dB_fan``."""
        return f"{self.snr_db}_dB_{self.machine_type}"

    @property
    def filename(self) -> str:
        """Such as ``6_dB_fan.zip``."""
        return f"{self.name}.zip"


ARCHIVES = (
    Archive(-6, "fan", "f02ae808a58d84b6815b7ec38ff30879", 10_878_096_548),
    Archive(-6, "pump", "d20b783a0ff9c93d58f452f98c37b112", 8_236_951_723),
    Archive(-6, "slider", "49913eda7d37f182cbf8ed5c984140e0"),
    Archive(-6, "valve", "fdfaf185fea61b21e11952a070a4ada7"),
    Archive(0, "fan", "6354d1cc2165c52168f9ef1bcd9c7c52", 10_411_902_283),
    Archive(0, "pump", "488748295c3f60b25de07b58fe75b049", 7_869_431_302),
    Archive(0, "slider", "4d674c21474f0646ecd75546db6c0c4e"),
    Archive(0, "valve", "178478eb0d11c79080a35562bfdeee71"),
    Archive(6, "fan", "0890f7d3c2fd8448634e69ff1d66dd47", 10_158_673_161),
    Archive(6, "pump", "a09ba6060c10fc09cd4c8770213b0b9f", 7_659_077_508),
    Archive(6, "slider", "838c2b3441858359c4704ef13a1b27ff"),
    Archive(6, "valve", "fe5fb7c337cd701b1d31dc641e621892"),
)
"""100.2 GB; CC BY-SA 4.0."""


def select(names: Iterable[str], archives: Sequence[Archive] = ARCHIVES) -> tuple[Archive, ...]:
    """Return the archives of these names, SNRs and machine types, each once."""
    chosen = {archive for name in names for archive in _named(name, archives)}
    return tuple(archive for archive in archives if archive in chosen)


def archive_url(archive: Archive, base_url: str = BASE_URL) -> str:
    """Return the URL of an archive."""
    return f"{base_url.rstrip('/')}/{quote(archive.filename)}"


def _named(name: str, archives: Sequence[Archive]) -> list[Archive]:
    wanted = name.lower()
    if wanted == "all":
        return list(archives)
    snr, machine_type = None, wanted
    if match := _NAME.fullmatch(wanted):
        snr = -int(match["size"]) if match["sign"] not in (None, "+") else int(match["size"])
        machine_type = match["type"]
    found = [
        archive
        for archive in archives
        if snr in (None, archive.snr_db) and machine_type in (None, archive.machine_type)
    ]
    if not found:
        raise NameOfArchiveError(_unknown(name, archives))
    return found


def _unknown(name: str, archives: Sequence[Archive]) -> str:
    known = [archive.name for archive in archives]
    types = sorted({archive.machine_type for archive in archives})
    snrs = sorted({f"{archive.snr_db}_dB" for archive in archives})
    meant = did_you_mean([name], [*known, *types, *snrs, "all"]) or "."
    return f"{name}: no such archive{meant} There are {', '.join(known)}; {', '.join(snrs)}; {', '.join(types)}; all"
