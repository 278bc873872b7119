"""What an export leaves beside its file on request: a signature, an inference script, a Triton repository.

Everything that can be refused is refused before the export begins, which may take minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compress.core.errors import CompressError
from compress.export.deploy import inference_script, triton
from compress.export.pipeline import ExportResult
from compress.export.trust.signing import SigningKey


@dataclass(frozen=True)
class Delivered:
    """Where the things that were asked for are."""

    script: Path | None
    signature: Path | None
    triton: Path | None

    def to_json(self) -> dict[str, str]:
        """Return the paths by name."""
        return {name: str(path) for name, path in vars(self).items() if path is not None}


@dataclass(frozen=True)
class Deployment:
    """What is to be left; make it with `prepare`."""

    key: SigningKey | None
    script: Path | None
    triton: Path | None

    def deliver(self, result: ExportResult) -> Delivered:
        """Write the script, the signature (of the manifest, which may know the script), the repository.

        Raises:
            CompressError: something cannot be written, or the server cannot serve the file's batch sizes.
        """
        folder = result.path.parent
        script = self.script and inference_script.write_script(self.script, folder, result.record)
        signature = self.key.sign(folder) if self.key is not None else None
        model = self.triton and triton.write_repository(self.triton, folder, result.record)
        return Delivered(script, signature, model)


def prepare(
    run: str | Path,
    format: str,
    *,
    sign: Path | None = None,
    script: Path | None = None,
    triton_repository: Path | None = None,
) -> Deployment:
    """Check what is asked for and return it.

    Args:
        run: the run that is exported.
        format: of the export.
        sign: an Ed25519 private key to sign the manifest with, see `compress.export.trust.signing.SigningKey`.
        script: file to write an inference script to.
        triton_repository: model repository to add the file to.

    Raises:
        CompressError: a key that cannot sign, a format that has no such thing, or a file in the way.
    """
    if script is not None:
        inference_script.check_format(format)
        inference_script.check_place(script)
    if triton_repository is not None:
        triton.check_format(format)
        folder = (Path(run) / "export").absolute()
        if triton_repository.absolute() == folder or folder in triton_repository.absolute().parents:
            raise CompressError(
                f"the Triton repository {str(triton_repository)!r} lies in the export folder",
                hint="its files would be unknown to the manifest; choose a folder elsewhere",
                code="triton-place",
            )
    return Deployment(None if sign is None else SigningKey(sign), script, triton_repository)
