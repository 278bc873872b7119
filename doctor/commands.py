"""Command that checks this machine."""

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
    from compress.doctor import examine, show

    report = examine()
    if as_json:
        console.print_json("doctor", {"works": report.works, **report.model_dump(mode="json")})
    else:
        console.print_result(*show.parts(report))
        console.print_message(show.verdict(report))
    if not report.works:
        raise typer.Exit(int(Exit.MISSING))
