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


def look_at(page: str, folder: Path, *flags: str) -> tuple[str, list[str], Path]:
    """Open a page; return its document as the browser sees it, what it has asked for, and a picture."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)}")
    (folder / "page.html").write_text(page.replace("</head>", f"{_TELL}</head>"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        nowhere = f"--proxy-server=127.0.0.1:{unused.getsockname()[1]}"
        common = [
            browser,
            *_QUIET,
            nowhere,
            "--proxy-bypass-list=<-loopback>",
            f"--user-data-dir={folder}/profile",
            *flags,
        ]
        for what in (f"--screenshot={folder}/page.png", "--dump-dom"):
            url = (folder / "page.html").as_uri()
            done = subprocess.run([*common, what, url], capture_output=True, timeout=90, check=True)
    document = done.stdout.decode()
    [asked] = re.findall(r'<html[^>]* data-asked="([^"]*)"', document)
    return document, asked.split(), folder / "page.png"
