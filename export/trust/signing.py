"""Ed25519 signatures of manifests: 64 raw bytes over manifest.json, in a file in the same folder.

Other tools can verify them too: ``openssl pkeyutl -verify -pubin -inkey key.pub.pem -rawin
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
        path: PEM file (PKCS 8, or OpenSSH's form); an encrypted one needs its password in the environment
            variable `PASSWORD`.

    Raises:
        CompressError: no such file, or a missing or wrong password (exit MISSING); another kind of key or
            file (exit USAGE).
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = _private(path, _content(path, "private key"))
        if not isinstance(key, Ed25519PrivateKey):
            raise _wrong_kind(path, _kind(key), "an Ed25519 private key")
        self._key = key

    def sign(self, folder: Path) -> Path:
        """Sign the manifest of a folder and return the path of the signature."""
        path = folder / SIGNATURE
        write_bytes(path, self._key.sign((folder / FILENAME).read_bytes()))
        return path


class PublicKey:
    """An Ed25519 public key.

    Args:
        path: PEM file, or a public key of OpenSSH (``ssh-ed25519 ...``).

    Raises:
        CompressError: no such file (exit MISSING), or another kind of key or file (exit USAGE).
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        content = _content(path, "public key")
        if b"PRIVATE KEY" in content:
            raise CompressError(
                f"{str(path)!r} is a private key",
                hint="give the public key; `openssl pkey -in KEY -pubout` prints it. "
                "The private key stays with the signer",
                code="wrong-key",
            )
        key = _public(path, content)
        if not isinstance(key, Ed25519PublicKey):
            raise _wrong_kind(path, _kind(key), "an Ed25519 public key")
        self._key = key

    def signature_error(self, content: bytes, signature: bytes) -> str | None:
        """Return why a signature of `content` is not valid for this key, or None if it is."""
        from cryptography.exceptions import InvalidSignature

        if len(signature) != 64:
            return f"has {len(signature)} bytes, an Ed25519 signature has 64"
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return "does not match this key and manifest: the manifest was changed, or another key signed it"
        return None


def new_key(path: Path) -> Path:
    """Write a new private key to `path`, readable by its owner only; return the path of its public key.

    Raises:
        CompressError: one of the two files exists (exit USAGE) or cannot be written (exit MISSING).
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(f"{path.stem}.pub{path.suffix}")
    for file in (path, public):
        if file.exists():
            raise CompressError(
                f"{str(file)!r} exists", hint="keys are never overwritten; give another name", code="exists"
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
    except TypeError as error:  # encrypted without a password, or a password for a plain key
        if password is None:
            raise _password_error(path, f"is encrypted and {PASSWORD} is not set") from error
        return load(content, None)
    except ValueError as error:
        if password is not None or b"ENCRYPTED" in content:
            raise _password_error(path, f"cannot be decrypted with the password in {PASSWORD}") from error
        raise _no_key(path, "private key") from error
    except Exception as error:  # an unsupported algorithm
        raise _no_key(path, "private key") from error


def _public(path: Path, content: bytes) -> Any:
    from cryptography.hazmat.primitives import serialization

    ssh = content.startswith((b"ssh-", b"ecdsa-"))
    try:
        return (serialization.load_ssh_public_key if ssh else serialization.load_pem_public_key)(content)
    except Exception as error:  # not a key, or an unsupported algorithm
        raise _no_key(path, "public key") from error


def _kind(key: Any) -> str:
    """Return the kind of a key from its class: ``RSA`` for `_RSAPrivateKey`, ``EC``, ``Ed448``, ..."""
    name = type(key).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    return name.replace("EllipticCurve", "EC")


def _wrong_kind(path: Path, kind: str, expected: str) -> CompressError:
    return CompressError(
        f"{str(path)!r} is a key of the kind {kind}, not {expected}", hint=MAKE_KEYS, code="wrong-key"
    )


def _no_key(path: Path, what: str) -> CompressError:
    return CompressError(
        f"{str(path)!r} is not a {what} that can be read",
        hint=f"give a PEM file; {MAKE_KEYS}",
        code="wrong-key",
    )


def _password_error(path: Path, reason: str) -> CompressError:
    return CompressError(
        f"the private key {str(path)!r} {reason}",
        hint=f"set the environment variable {PASSWORD} to its password",
        code="key-password",
        exit=Exit.MISSING,
    )
