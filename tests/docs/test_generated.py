"""Pages that are generated from the sources are complete."""

from __future__ import annotations

import re

import pytest
from pages import DOCS, generate


def test_a_command_page_lists_every_option_with_a_meaning() -> None:
    for command in generate().command_help():
        page = generate().command_page(command)
        assert page.startswith(f"# compress {command.name}\n")
        assert "--json" in page
        assert all(option.help and option.flags in page for option in command.options), command.name


def test_the_overview_links_every_command() -> None:
    commands = generate().command_help()
    page = generate().overview_page(commands)
    assert all(f"[`compress {command.name}`]({command.file})" in page for command in commands)


@pytest.mark.parametrize(
    "name", ["train_settings", "dcff_settings", "kdfs_settings", "abp_settings", "baseline_settings"]
)
def test_every_setting_has_a_meaning(name: str) -> None:
    rows = generate().GENERATED[name]().splitlines()[2:]
    assert rows
    assert [row for row in rows if row.rstrip("| ").endswith("|") or re.search(r"\|\s*\|$", row)] == []


def test_every_placeholder_is_generated() -> None:
    used = {name for page in DOCS.glob("*.md") for name in generate().MARKER.findall(page.read_text("utf-8"))}
    assert used == set(generate().GENERATED)


def test_schemas_have_every_record_of_a_run_folder() -> None:
    text = generate().schemas()
    for file in ("run.json", "compact/model.json", "export/manifest.json", "bench/results.json"):
        assert f"### {file}\n" in text
    assert '"schema_version"' in text


def test_each_term_is_in_the_glossary_once() -> None:
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = [term for line in re.findall(r"^(\S.*)\n:   ", page, re.MULTILINE) for term in line.split(", ")]
    assert len(terms) > 60
    assert [term for term in terms if terms.count(term) > 1] == []
