"""Signatures of manifests: Ed25519 over the bytes of manifest.json, 64 raw bytes in a file beside it.

Raw, so that other tools can check them: ``openssl pkeyutl -verify -pubin -inkey key.pub.pem -rawin
-in manifest.json -sigfile manifest.json.sig``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from compress.core.errors import CompressError, Exit
from compress.core.files import explain_write_errors, write_bytes
from compress.export.trust.manifest import FILENAME, SIGNATURE

PASSWORD = "COMPRESS_KEY_PASSWORD"
"""Environment variable that holds the password of an encrypted private key."""

MAKE_KEYS = "make a pair with `compress verify --new-key key.pem`"
_MAX_KEY_BYTES = 65536


class SigningKey:
    """An Ed25519 private key.

    Args:
        path: PEM file (PKCS 8, or OpenSSH's form); an encrypted one needs `PASSWORD`.

    Raises:
        CompressError: no such file, a password that is missing or wrong (exit MISSING), or another kind of
            key or file (exit USAGE).
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = _private(path, _content(path, "private key"))
        if not isinstance(key, Ed25519PrivateKey):
            raise _wrong_kind(path, _kind(key), "an Ed25519 private key")
        self._key = key

    def sign(self, folder: Path) -> Path:
        """Write the signature of a folder's manifest beside it and return its path."""
        path = folder / SIGNATURE
        write_bytes(path, self._key.sign((folder / FILENAME).read_bytes()))
        return path


class PublicKey:
    """An Ed25519 public key.

    Args:
        path: PEM file, or the line OpenSSH writes (``ssh-ed25519 ...``).

    Raises:
        CompressError: no such file (exit MISSING), or another kind of key or file (exit USAGE).
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        content = _content(path, "public key")
        if b"PRIVATE KEY" in content:
            raise CompressError(
                f"{str(path)!r} is a private key",
                hint="give the public one; `openssl pkey -in KEY -pubout` prints it. "
                "The private one stays with who signs",
                code="wrong-key",
            )
        key = _public(path, content)
        if not isinstance(key, Ed25519PublicKey):
            raise _wrong_kind(path, _kind(key), "an Ed25519 public key")
        self._key = key

    def fault(self, content: bytes, signature: bytes) -> str | None:
        """Say what is wrong with the signature of `content`; None where it is this key's."""
        from cryptography.exceptions import InvalidSignature

        if len(signature) != 64:
            return f"has {len(signature)} bytes, an Ed25519 signature has 64"
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return "is not of this key and this manifest: the manifest was changed, or another key signed it"
        return None


def new_key(path: Path) -> Path:
    """Make a key pair: the private key in `path`, readable by its owner only; return the public one's path.

    Raises:
        CompressError: one of the two files exists (exit USAGE) or cannot be written (exit MISSING).
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(f"{path.stem}.pub{path.suffix}")
    for file in (path, public):
        if file.exists():
            raise CompressError(
                f"{str(file)!r} exists", hint="a key is never overwritten; choose another name", code="exists"
            )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file_:
            file_.write(private)
    write_bytes(
        public, key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return public


def _content(path: Path, what: str) -> bytes:
    try:
        if path.stat().st_size > _MAX_KEY_BYTES:
            raise _no_key(path, what)
        return path.read_bytes()
    except OSError as error:
        raise CompressError(
            f"the {what} {str(path)!r} cannot be read: {error.strerror}",
            hint=MAKE_KEYS,
            code="missing-file",
            exit=Exit.MISSING,
        ) from error


def _private(path: Path, content: bytes) -> Any:
    from cryptography.hazmat.primitives import serialization

    if b"PUBLIC KEY" in content or content.startswith(b"ssh-"):
        raise CompressError(
            f"{str(path)!r} is a public key; signing needs the private one", hint=MAKE_KEYS, code="wrong-key"
        )
    if b"PRIVATE KEY" not in content:
        raise _no_key(path, "private key")
    load = serialization.load_pem_private_key
    if b"OPENSSH PRIVATE KEY" in content:
        load = serialization.load_ssh_private_key
    given = os.environ.get(PASSWORD)
    password = given.encode() if given else None
    try:
        return load(content, password)
    except TypeError as error:  # it is encrypted and no password is given, or the other way round
        if password is None:
            raise _locked(path, f"is encrypted and {PASSWORD} is not set") from error
        return load(content, None)
    except ValueError as error:
        if password is not None or b"ENCRYPTED" in content:
            raise _locked(path, f"cannot be decrypted with the password in {PASSWORD}") from error
        raise _no_key(path, "private key") from error
    except Exception as error:  # an algorithm that the library does not know
        raise _no_key(path, "private key") from error


def _public(path: Path, content: bytes) -> Any:
    from cryptography.hazmat.primitives import serialization

    ssh = content.startswith((b"ssh-", b"ecdsa-"))
    try:
        return (serialization.load_ssh_public_key if ssh else serialization.load_pem_public_key)(content)
    except Exception as error:  # not a key, or an algorithm that the library does not know
        raise _no_key(path, "public key") from error


def _kind(key: Any) -> str:
    """Name a key's kind by its class: ``RSA`` of `_RSAPrivateKey`, ``EC``, ``Ed448`` and so on."""
    name = type(key).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    return name.replace("EllipticCurve", "EC")


def _wrong_kind(path: Path, kind: str, wanted: str) -> CompressError:
    return CompressError(
        f"{str(path)!r} is a key of the kind {kind}, not {wanted}", hint=MAKE_KEYS, code="wrong-key"
    )


def _no_key(path: Path, what: str) -> CompressError:
    return CompressError(
        f"{str(path)!r} is no {what} that can be read",
        hint=f"a PEM file is wanted; {MAKE_KEYS}",
        code="wrong-key",
    )


def _locked(path: Path, why: str) -> CompressError:
    return CompressError(
        f"the private key {str(path)!r} {why}",
        hint=f"set {PASSWORD} to its password",
        code="key-password",
        exit=Exit.MISSING,
    )
