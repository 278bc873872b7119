"""The command doctor."""

from __future__ import annotations

import typer

from compress.core import console
from compress.core.command_line import CommandApp
from compress.core.errors import Exit
from compress.core.options import JsonOption

app = CommandApp()


@app.command(rich_help_panel="Start here")
def doctor(as_json: JsonOption = False) -> None:
    """Check what works on this machine and how to fix what does not."""
    from compress.doctor import examine
    from compress.doctor.render import render_report, summarize

    report = examine()
    if as_json:
        values = report.model_dump(mode="json", by_alias=True)
        console.print_json("doctor", {"works": report.works, **values})
    else:
        console.print_result(*render_report(report))
        console.print_message(summarize(report))
    if not report.works:
        raise typer.Exit(int(Exit.MISSING))
