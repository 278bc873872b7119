"""What `compress verify` found, for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from compress.export.trust.verify import Verification

_COLOURS = {"ok": "green", "fault": "red", "note": "yellow"}


def table(found: Verification) -> Table:
    """Return a row a finding: the file, what was checked, the outcome."""
    out = Table(title=found.folder, title_justify="left")
    for name in ("file", "check", "", "said"):
        out.add_column(name, overflow="fold")
    for finding in found.findings:
        status = Text(finding.status, style=_COLOURS[finding.status])
        out.add_row(Text(finding.file), finding.check, status, Text(finding.said))
    return out


def verdict(found: Verification) -> str:
    """Return the outcome in a line, naming the files at fault."""
    if found.passed:
        signed = ", and the signature holds" if found.signed else ""
        return f"every file is what the manifest says{signed}"
    files = dict.fromkeys(finding.file for finding in found.faults)
    return f"not to be trusted: {', '.join(files)}"
