"""Links between the pages of the documentation lead somewhere."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from pages import DOCS, FENCE, ROOT, generate, pages, without_code

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@lru_cache
def _anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as MkDocs makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    if "<!-- generated: schemas -->" in text:
        text += "\n".join(f"### {file}" for file in generate().record_types())
    if "::: " in text:
        text += "\n".join(f"### {name}" for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in pages()])
def test_links_resolve(page: Path) -> None:
    generated = {f"commands/{name}" for name in ("index.md", *(c.file for c in generate().command_help()))}
    broken = []
    for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if "://" in link or (page.parent == DOCS and path in generated):
            continue
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w-]+\.md", yaml.safe_dump(yaml.safe_load(text)["nav"])))
    assert listed == {page.name for page in DOCS.glob("*.md")}
