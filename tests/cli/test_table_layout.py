"""Tables fit the width of the terminal without cutting words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from cli_calls import NETWORK, Here, Outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from compress.core import console
from compress.core.table_layout import fit_to_width
from compress.doctor import examine
from compress.doctor.render import render_report

BORDERS = r"[\s│┃┏┓┗┛━┳┻╇╋┡┩├┤┼─└┘┴┬╭╮╯╰]+"


def words(text: str) -> Counter[str]:
    """Count the words of a printed table."""
    return Counter(word for word in re.split(BORDERS, text) if word)


def missing_words(wide: str, narrow: str) -> set[str]:
    """Return the words of a wide output that a narrow one has not; rows may have become ``heading: cell``."""
    return set(words(wide)) - set(words(narrow)) - set(words(narrow.replace(":", " ")))


def printed(table: Table, width: int) -> str:
    """Return a table as it is printed at a width."""
    output = Console(width=width, no_color=True, highlight=False)
    with output.capture() as captured:
        output.print(fit_to_width(table, output))
    return captured.get()


def make_table(headings: list[str], rows: list[list[str]]) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    return table


CELL = st.lists(st.text("abcxyz019", min_size=1, max_size=14), max_size=5).map(" ".join)
CONTENT = st.integers(1, 6).flatmap(
    lambda columns: st.tuples(
        st.lists(CELL, min_size=columns, max_size=columns),
        st.lists(st.lists(CELL, min_size=columns, max_size=columns), min_size=1, max_size=3),
    )
)


@settings(max_examples=60, deadline=None)
@given(CONTENT, st.integers(24, 100))
def test_no_word_of_a_cell_is_cut_at_any_width(
    content: tuple[list[str], list[list[str]]], width: int
) -> None:
    text = printed(make_table(*content), width)
    assert all(len(line) <= width for line in text.splitlines())
    shown = words(text.replace(":", " "))
    expected = words(" ".join(cell for row in content[1] for cell in row))
    assert all(shown[word] >= count for word, count in expected.items())


def test_a_table_that_fits_is_left_as_it_is() -> None:
    table = make_table(["name", "ms"], [["conv1", "3.5"]])
    assert fit_to_width(table, Console(width=40)) is table
    assert all(column.width is None for column in table.columns)


def test_a_table_that_cannot_fit_is_printed_as_blocks() -> None:
    table = make_table(["layer", "reason"], [["features.conv1", "alignment"]])
    lines = [line.rstrip() for line in printed(table, 18).splitlines()]
    assert lines == ["layer:", "features.conv1", "  reason:", "  alignment"]


@pytest.fixture
def at_width(call: Here, monkeypatch: pytest.MonkeyPatch) -> object:
    """Call a command line with a terminal of so many columns."""

    def run(columns: int, *command: object) -> Outcome:
        monkeypatch.setenv("COLUMNS", str(columns))
        return call(*command)

    return run


TABLES = {
    "recipes": ("recipes",),
    "inspect": ("inspect", "--model", "resnet20"),
    "settings": ("train", "--method", "dcff", "--set", "help"),
    "plan": ("train", *NETWORK, "--target", "macs=0.5", "--dry-run"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_commands_fit_80_columns_with_every_word(at_width: object, name: str) -> None:
    wide, narrow = at_width(1000, *TABLES[name]), at_width(80, *TABLES[name])  # type: ignore[operator]
    assert (wide.code, narrow.code) == (0, 0), narrow.err
    assert all(len(line) <= 80 for line in narrow.out.splitlines() if re.match(BORDERS, line))
    assert missing_words(wide.out, narrow.out) <= {
        "recipe"
    }  # the heading of the first column, where rows are blocks
    assert at_width(60, *TABLES[name]).code == 0  # type: ignore[operator]


def test_tables_about_a_run_fit_80_columns_with_every_word(at_width: object, run: Path) -> None:
    quick = ("--pairs", 10, "--sessions", 1, "--threads", 1)
    assert at_width(80, "bench", run, *quick).code == 0  # type: ignore[operator]
    assert at_width(80, "export", run, "--samples", 16).code == 0  # type: ignore[operator]
    assert (Path("run") / "bench").samefile(run / "bench")  # a path may be longer than a line
    stored = "run/bench/results.json"
    for command in (("bench", "--replay", "run"), ("bench", "diff", stored, stored), ("verify", "run")):
        wide, narrow, narrowest = (at_width(columns, *command) for columns in (1000, 80, 60))  # type: ignore[operator]
        assert (wide.code, narrow.code, narrowest.code) == (0, 0, 0), command
        assert missing_words(wide.out, narrow.out) == set(), command
        assert max(map(len, narrow.out.splitlines())) <= 80


def test_the_table_of_doctor_fits_80_columns_with_every_word(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = examine()
    shown = []
    for columns in (1000, 80, 60):
        monkeypatch.setenv("COLUMNS", str(columns))
        console.print_result(render_report(report)[-1])
        shown.append(capfd.readouterr().out)
    assert max(map(len, shown[1].splitlines())) <= 80
    assert missing_words(shown[0], shown[1]) == set()
