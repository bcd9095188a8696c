"""What the room imports: little, until bytes are read with it."""

import subprocess
import sys

import pytest

SLOW = ("requests", "urllib3", "s3fs", "aiobotocore", "botocore", "fsspec", "isal")
NAMES = (
    *("Access", "DiskObjects", "Place", "parse_options", "is_remote", "printable", "open_objects", "open_all"),
    *("download", "transfer", "StoppedError", "s3", "zips"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_imported_without_what_is_slow(name):
    script = f"import sys; from mimii.storage import {name}; print([m for m in {SLOW} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_room_itself_imports_none_of_its_files():
    script = "import sys, mimii.storage; print([m for m in sys.modules if m.startswith('mimii.storage.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
