"""The files written after an export on request: signature, inference script, Triton repository.

Everything that can be refused is refused before the export, which may take minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.core.errors import CompressError
from compress.export.deploy import inference_script, triton
from compress.export.result import ExportResult
from compress.export.trust.signing import SigningKey


@dataclass(frozen=True)
class WrittenExtras:
    """Paths of what was written; None for what was not requested."""

    script: Path | None
    signature: Path | None
    triton: Path | None

    def to_json(self) -> dict[str, str]:
        """Return the paths by name."""
        return {name: str(path) for name, path in vars(self).items() if path is not None}


@dataclass(frozen=True)
class DeployExtras:
    """What to write after an export; make it with `prepare_extras`."""

    key: SigningKey | None
    script: Path | None
    triton: Path | None

    def write(self, results: Sequence[ExportResult]) -> WrittenExtras:
        """Write the script and the repository for the (only) file, then the signature of the manifest.

        Raises:
            CompressError: something cannot be written, or the server cannot serve the file's batch sizes.
        """
        last = results[-1]
        folder = last.path.parent
        script = self.script and inference_script.write_script(self.script, folder, last.record)
        signature = self.key.sign(folder) if self.key is not None else None
        model = self.triton and triton.write_repository(self.triton, folder, last.record)
        return WrittenExtras(script, signature, model)


def prepare_extras(
    run: str | Path,
    formats: Sequence[str],
    *,
    sign: Path | None = None,
    script: Path | None = None,
    triton_repository: Path | None = None,
    file_count: int = 1,
) -> DeployExtras:
    """Check what is requested and return it.

    Args:
        run: the run that is exported.
        formats: the formats of the export.
        sign: an Ed25519 private key to sign the manifest with; see
            `compress.export.trust.signing.SigningKey`.
        script: file to write an inference script to.
        triton_repository: model repository to add the file to.
        file_count: how many files are exported.

    Raises:
        CompressError: a key that cannot sign, a format without such a deployment, several files for a script
            or a repository, or a file in the way.
    """
    if script is not None:
        _require_one_file("--script", file_count)
        inference_script.check_format(formats[0])
        inference_script.check_place(script)
    if triton_repository is not None:
        _require_one_file("--triton", file_count)
        triton.check_format(formats[0])
        folder = (Path(run) / "export").absolute()
        if triton_repository.absolute() == folder or folder in triton_repository.absolute().parents:
            raise CompressError(
                f"the Triton repository {str(triton_repository)!r} is inside the export folder",
                hint="its files would not be in the manifest; give another folder",
                code="triton-place",
            )
    return DeployExtras(None if sign is None else SigningKey(sign), script, triton_repository)


def _require_one_file(flag: str, file_count: int) -> None:
    if file_count > 1:
        raise CompressError(
            f"{flag} is for one file, and {file_count} are exported",
            hint=f"give one --format and one --precision with {flag}",
            code="one-file",
        )
