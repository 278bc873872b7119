"""Compare an export folder with its manifest (``compress verify``).

Each `Finding` is about one file. A folder passes if no finding is a fault; notes are only for the reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file
from compress.core.spec import Record
from compress.export.trust import manifest
from compress.export.trust.manifest import FILENAME, SIGNATURE, CompanionRecord, FileRecord, Lineage, Manifest
from compress.export.trust.onnx_metadata import find_differences
from compress.export.trust.signing import PublicKey

Status = Literal["ok", "fault", "note"]

_COLORS = {"ok": "green", "fault": "red", "note": "yellow"}


class Finding(Record):
    """The result of one check of one file.

    Attributes:
        file: its name in the folder.
        check: manifest, signature, content, metadata, parity, lineage or listing.
        status: ``fault`` fails the folder, ``note`` does not.
        said: the result as text.
    """

    file: str
    check: str
    status: Status
    said: str


class Verification(Record):
    """The results for a folder.

    Attributes:
        folder: path of the folder.
        signed: whether a signature was checked and is valid; None if none was requested.
        findings: in the order of the manifest.
    """

    folder: str
    signed: bool | None
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that fail the folder."""
        return tuple(finding for finding in self.findings if finding.status == "fault")

    @property
    def passed(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    @property
    def summary(self) -> str:
        """The result in one line, with the names of the files at fault."""
        if self.passed:
            signed = ", and the signature is valid" if self.signed else ""
            return f"every file matches the manifest{signed}"
        return f"not to be trusted: {', '.join(dict.fromkeys(finding.file for finding in self.faults))}"


def verify_folder(folder: str | Path, public_key: str | Path | None = None) -> Verification:
    """Compare every file of an export folder with its manifest, and the manifest with its signature.

    Args:
        folder: an export folder, or the run folder it is in.
        public_key: file of the Ed25519 key that must have signed the manifest; None checks no signature.

    Raises:
        CompressError: there is no manifest (exit MISSING), or the key is not a public Ed25519 key.
    """
    export_folder = _export_folder(Path(folder))
    key = None if public_key is None else PublicKey(Path(public_key))
    signature = _check_signature(export_folder, key)
    findings = [signature, *_check_contents(export_folder)]
    signed = None if key is None else signature.status == "ok"
    return Verification(folder=str(export_folder), signed=signed, findings=tuple(findings))


def render_verification(verification: Verification) -> Table:
    """Return a table with a row for each finding: the file, the check, the status and the result."""
    table = Table(title=verification.folder, title_justify="left")
    for name in ("file", "check", "", "result"):
        table.add_column(name, overflow="fold")
    for finding in verification.findings:
        status = Text(finding.status, style=_COLORS[finding.status])
        table.add_row(Text(finding.file), finding.check, status, Text(finding.said))
    return table


def _export_folder(given: Path) -> Path:
    """Return the folder that contains the manifest: `given`, or its folder ``export``."""
    for folder in (given, given / "export"):
        if (folder / FILENAME).is_file():
            return folder
    raise CompressError(
        f"{str(given)!r} contains no {FILENAME}" if given.is_dir() else f"there is no folder {str(given)!r}",
        hint="give the folder that `compress export` wrote; files without a manifest cannot be verified",
        code="no-manifest",
        exit=Exit.MISSING,
    )


def _check_signature(folder: Path, key: PublicKey | None) -> Finding:
    def result(status: Status, text: str) -> Finding:
        return Finding(file=SIGNATURE, check="signature", status=status, said=text)

    path = folder / SIGNATURE
    if not path.is_file():
        if key is None:
            return result("note", "the manifest is not signed")
        return result("fault", "is missing: the manifest is not signed, or its signature was removed")
    if key is None:
        return result("note", "not checked: give --public-key")
    error = key.signature_error((folder / FILENAME).read_bytes(), path.read_bytes())
    return result("ok", "is valid for this manifest and key") if error is None else result("fault", error)


def _check_contents(folder: Path) -> Iterator[Finding]:
    try:
        listed = manifest.read_file(folder / FILENAME)
    except CompressError as error:
        yield Finding(file=FILENAME, check="manifest", status="fault", said=error.message)
        return
    yield _check_names(listed)
    for record in listed.files:
        yield from _check_file(folder, record)
    for extra in listed.extras:
        yield _check_content(folder, extra)
    yield from _check_unlisted(folder, listed)


def _check_names(listed: Manifest) -> Finding:
    """Check that the manifest lists each file once."""
    counts = Counter(part.file for part in _all_parts(listed))
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        text = f"lists {', '.join(repeated)} more than once"
        return Finding(file=FILENAME, check="manifest", status="fault", said=text)
    text = f"lists {len(listed.files)} export{'' if len(listed.files) == 1 else 's'}"
    return Finding(file=FILENAME, check="manifest", status="ok", said=text)


def _all_parts(listed: Manifest) -> list[FileRecord | CompanionRecord]:
    """Return the records of all files: exports, their companions, and the extras."""
    return [*(part for record in listed.files for part in record.parts), *listed.extras]


def _check_file(folder: Path, record: FileRecord) -> Iterator[Finding]:
    content = _check_content(folder, record)
    yield content
    for companion in record.companions:
        yield _check_content(folder, companion)
    if record.file.endswith(".onnx") and content.status == "ok":
        differences = find_differences(folder / record.file, record)
        text = "; ".join(differences) if differences else "matches the manifest"
        status: Status = "fault" if differences else "ok"
        yield Finding(file=record.file, check="metadata", status=status, said=text)
    if not record.parity.passed:
        text = "failed its parity check: it does not compute the same as the network"
        yield Finding(file=record.file, check="parity", status="fault", said=text)
    yield from _note_not_run(record)
    yield from _check_lineage(folder.parent, record.file, record.lineage)


def _note_not_run(record: FileRecord) -> Iterator[Finding]:
    """Note a file that could not be run where it was exported, so that its parity chain ends before it."""
    chain = record.details.get("chain")
    for link in chain if isinstance(chain, list) else []:
        if isinstance(link, dict) and (link.get("name"), link.get("status")) == (record.file, "not run"):
            text = f"was never run: {link.get('reason')}"
            yield Finding(file=record.file, check="parity", status="note", said=text)


def _check_content(folder: Path, record: FileRecord | CompanionRecord) -> Finding:
    mismatch = manifest.describe_mismatch(folder, record)
    text = f"sha256 {record.sha256[:16]}..., {record.bytes:,} bytes" if mismatch is None else mismatch
    status: Status = "ok" if mismatch is None else "fault"
    return Finding(file=record.file, check="content", status=status, said=text)


def _check_lineage(run: Path, file: str, lineage: Lineage) -> Iterator[Finding]:
    """Note a run that has changed since the file was made from it."""
    compact = run / "compact"
    for path, expected in (
        (compact / "weights.safetensors", lineage.weights_sha256),
        (compact / "plan.json", lineage.plan_sha256),
    ):
        if expected is not None and path.is_file() and sha256_file(path) != expected:
            text = f"the run's {path.relative_to(run).as_posix()} has changed since: export again"
            yield Finding(file=file, check="lineage", status="note", said=text)


def _check_unlisted(folder: Path, listed: Manifest) -> Iterator[Finding]:
    """Report every file of the folder that is not in the manifest."""
    known = {FILENAME, SIGNATURE} | {part.file for part in _all_parts(listed)}
    for path in sorted(folder.iterdir()):
        if path.name in known:
            continue
        status: Status = "fault"
        text = "is not in the manifest, so it cannot be verified; remove it"
        if path.name.removesuffix(".json").endswith(".rejected"):
            status, text = "note", "was rejected by the parity check; not released"
        elif path.name.startswith((".staging-", f".{FILENAME}.")):
            status, text = "note", "was left by an interrupted export; remove it"
        yield Finding(file=path.name, check="listing", status=status, said=text)
