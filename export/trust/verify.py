"""`compress verify`: is an export folder what its manifest says, and nothing else?

Every finding names a file. A folder passes if no finding is a fault; a note is for the reader only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from compress.core.errors import CompressError, Exit
from compress.core.files import sha256_file
from compress.core.spec import Record
from compress.export.trust import manifest
from compress.export.trust.manifest import FILENAME, SIGNATURE, CompanionRecord, FileRecord, Lineage, Manifest
from compress.export.trust.onnx_claims import differences
from compress.export.trust.signing import PublicKey

Status = Literal["ok", "fault", "note"]


class Finding(Record):
    """What was found of one file.

    Attributes:
        file: its name in the folder.
        check: what was looked at: manifest, signature, content, metadata, parity, lineage or listing.
        status: ``fault`` fails the folder, ``note`` does not.
        said: the outcome in words.
    """

    file: str
    check: str
    status: Status
    said: str


class Verification(Record):
    """What was found of a folder.

    Attributes:
        folder: as it was looked at.
        signed: whether a signature was checked and holds; None where none was asked for.
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
        """Whether nothing is wrong."""
        return not self.faults


def verify(folder: str | Path, public_key: str | Path | None = None) -> Verification:
    """Check every file of an export folder against its manifest, and the manifest against its signature.

    Args:
        folder: an export folder, or the run folder it is in.
        public_key: file of the Ed25519 key the manifest must be signed with; None asks for no signature.

    Raises:
        CompressError: there is no manifest (exit MISSING), or the key is no such key.
    """
    where = _folder(Path(folder))
    key = None if public_key is None else PublicKey(Path(public_key))
    signature = _signature(where, key)
    findings = [signature, *_contents(where)]
    signed = None if key is None else signature.status == "ok"
    return Verification(folder=str(where), signed=signed, findings=tuple(findings))


def _folder(given: Path) -> Path:
    """Return the folder that holds the manifest: the one given, or its ``export``."""
    for folder in (given, given / "export"):
        if (folder / FILENAME).is_file():
            return folder
    what = f"{str(given)!r} holds no {FILENAME}" if given.is_dir() else f"there is no folder {str(given)!r}"
    raise CompressError(
        what,
        hint="give the folder `compress export` wrote; without a manifest nothing vouches for its files",
        code="no-manifest",
        exit=Exit.MISSING,
    )


def _signature(folder: Path, key: PublicKey | None) -> Finding:
    def found(status: Status, said: str) -> Finding:
        return Finding(file=SIGNATURE, check="signature", status=status, said=said)

    path = folder / SIGNATURE
    if not path.is_file():
        if key is None:
            return found("note", "the manifest is not signed")
        return found("fault", "is missing: the manifest is not signed, or its signature was removed")
    if key is None:
        return found("note", "not checked: give --public-key")
    fault = key.fault((folder / FILENAME).read_bytes(), path.read_bytes())
    return found("ok", "holds for this manifest and key") if fault is None else found("fault", fault)


def _contents(folder: Path) -> Iterator[Finding]:
    try:
        listed = manifest.read_file(folder / FILENAME)
    except CompressError as error:
        yield Finding(file=FILENAME, check="manifest", status="fault", said=error.message)
        return
    yield _manifest(listed)
    for record in listed.files:
        yield from _file(folder, record)
    for extra in listed.extras:
        yield _content(folder, extra)
    yield from _others(folder, listed)


def _manifest(listed: Manifest) -> Finding:
    names = Counter(part.file for part in _parts(listed))
    twice = sorted(name for name, count in names.items() if count > 1)
    said = f"lists {len(listed.files)} exports" if len(listed.files) != 1 else "lists 1 export"
    if twice:
        return Finding(
            file=FILENAME, check="manifest", status="fault", said=f"lists {', '.join(twice)} more than once"
        )
    return Finding(file=FILENAME, check="manifest", status="ok", said=said)


def _parts(listed: Manifest) -> list[FileRecord | CompanionRecord]:
    """Every record of a file: exports, their companions, and the extras."""
    return [*(part for record in listed.files for part in record.parts), *listed.extras]


def _file(folder: Path, record: FileRecord) -> Iterator[Finding]:
    content = _content(folder, record)
    yield content
    for companion in record.companions:
        yield _content(folder, companion)
    if record.file.endswith(".onnx") and content.status == "ok":
        different = differences(folder / record.file, record)
        said = "; ".join(different) if different else "says what the manifest says"
        status: Status = "fault" if different else "ok"
        yield Finding(file=record.file, check="metadata", status=status, said=said)
    if not record.parity.passed:
        said = "the manifest says that it failed: it does not compute what the network computes"
        yield Finding(file=record.file, check="parity", status="fault", said=said)
    yield from _not_run(record)
    yield from _lineage(folder.parent, record.file, record.lineage)


def _not_run(record: FileRecord) -> Iterator[Finding]:
    """Note a file that could not be run where it was exported, so that its parity chain ends before it."""
    chain = record.details.get("chain")
    for link in chain if isinstance(chain, list) else []:
        if isinstance(link, dict) and (link.get("name"), link.get("status")) == (record.file, "not run"):
            said = f"was never run: {link.get('reason')}"
            yield Finding(file=record.file, check="parity", status="note", said=said)


def _content(folder: Path, record: FileRecord | CompanionRecord) -> Finding:
    fault = manifest.fault(folder, record)
    said = f"sha256 {record.sha256[:16]}..., {record.bytes:,} bytes" if fault is None else fault
    status: Status = "ok" if fault is None else "fault"
    return Finding(file=record.file, check="content", status=status, said=said)


def _lineage(run: Path, file: str, origin: Lineage) -> Iterator[Finding]:
    """Note where the run beside the folder is no longer what the file was made from."""
    compact = run / "compact"
    for path, wanted in (
        (compact / "weights.safetensors", origin.weights_sha256),
        (compact / "plan.json", origin.plan_sha256),
    ):
        if wanted is not None and path.is_file() and sha256_file(path) != wanted:
            said = f"the run's {path.relative_to(run).as_posix()} is another since: export again"
            yield Finding(file=file, check="lineage", status="note", said=said)


def _others(folder: Path, listed: Manifest) -> Iterator[Finding]:
    """Name everything in the folder that the manifest does not."""
    known = {FILENAME, SIGNATURE} | {part.file for part in _parts(listed)}
    for path in sorted(folder.iterdir()):
        if path.name in known:
            continue
        status: Status = "fault"
        said = "is not in the manifest: nothing vouches for it; remove it"
        if path.name.removesuffix(".json").endswith(".rejected"):
            status, said = "note", "was rejected by the parity check; not released"
        elif path.name.startswith((".staging-", f".{FILENAME}.")):
            status, said = "note", "left by an export that was cut off; remove it"
        yield Finding(file=path.name, check="listing", status=status, said=said)
