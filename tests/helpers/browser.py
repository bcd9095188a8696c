"""A real browser without a window. It reaches nothing: whatever it asks for goes to a port where nobody listens."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"),
)
_TELL = """<script>addEventListener("load", () => {
  const asked = performance.getEntriesByType("resource").map(entry => entry.name);
  document.documentElement.setAttribute("data-asked", asked.join(" "));
});</script>"""


def look_at(page: str, folder: Path, *flags: str) -> tuple[str, list[str]]:
    """Open a page; return its document as the browser sees it, and what it has asked for."""
    document = _open(page, folder, "--dump-dom", *flags)
    [asked] = re.findall(r'<html[^>]* data-asked="([^"]*)"', document)
    return document, asked.split()


def picture_of(page: str, folder: Path, *flags: str) -> Path:
    """Open a page; return a picture of it."""
    _open(page, folder, f"--screenshot={folder}/page.png", *flags)
    return folder / "page.png"


def _open(page: str, folder: Path, *flags: str) -> str:
    """Open a page in a browser; return what the browser prints."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)}")
    (folder / "page.html").write_text(page.replace("</head>", f"{_TELL}</head>"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        nowhere = f"--proxy-server=127.0.0.1:{unused.getsockname()[1]}"
        where = ("--proxy-bypass-list=<-loopback>", f"--user-data-dir={folder}/profile")
        url = (folder / "page.html").as_uri()
        command = [browser, *_QUIET, nowhere, *where, *flags, url]
        done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout.decode()
