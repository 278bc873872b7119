"""A page in Chromium, without a window: how wide it is laid out, what the console says, how it looks."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)

needs_browser = pytest.mark.skipif(PROGRAM is None, reason=f"none of {', '.join(NAMES)} is installed")

FRAME = """<!DOCTYPE html><body style="margin:0">
<iframe id="page" src="{page}" style="border:0; width:{width}px; height:{height}px"></iframe>
<script>
  document.getElementById("page").onload = (event) => {{
    const inside = event.target.contentDocument;
    const texts = [...inside.querySelectorAll("figure text")].filter((text) => text.textContent.trim());
    const sizes = texts.map((text) => text.getBoundingClientRect().height);
    console.log(`laid out ${{inside.documentElement.scrollWidth}} ${{Math.min(...sizes)}}`);
  }};
</script>"""


@dataclass(frozen=True)
class Seen:
    """What the browser found.

    Attributes:
        width: pixels the content takes. smallest: height of the smallest text in a figure, pixels.
        console: every line of the page's console.
        picture: the screenshot (PNG).
    """

    width: float
    smallest: float
    console: tuple[str, ...]
    picture: Path


def look(page: Path, folder: Path, width: int, height: int = 900) -> Seen:
    """Show a page in a frame of `width` x `height` pixels (a window alone cannot be narrower than 500)."""
    frame, picture = folder / f"frame-{width}.html", folder / f"{width}.png"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width, height=height))
    size = f"--window-size={width},{height}"
    output = _run(folder, size, "--allow-file-access-from-files", f"--screenshot={picture}", frame.as_uri())
    lines = re.findall(r'CONSOLE[^"]*"(.*?)", source', output)
    laid_out = [line for line in lines if line.startswith("laid out")]
    assert len(laid_out) == 1, output
    numbers = [float(value) for value in laid_out[0].split()[2:]]
    return Seen(numbers[0], numbers[1], tuple(line for line in lines if line not in laid_out), picture)


def printed(page: Path, folder: Path) -> bytes:
    """Return the page as it is printed, a PDF."""
    path = folder / "printed.pdf"
    _run(folder, "--no-pdf-header-footer", f"--print-to-pdf={path}", page.as_uri())
    return path.read_bytes()


def _run(folder: Path, *words: str) -> str:
    assert PROGRAM is not None
    done = subprocess.run(
        [
            PROGRAM,
            "--headless",
            "--no-sandbox",  # a container's root has none
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stderr
