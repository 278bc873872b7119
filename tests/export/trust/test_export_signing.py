from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compress.core.errors import CompressError, Exit
from compress.export.trust import manifest
from compress.export.trust.signing import PASSWORD, PublicKey, SigningKey, new_key
from compress.export.trust.verify import verify_folder

PKCS8 = (form.Encoding.PEM, form.PrivateFormat.PKCS8)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    new_key(path)
    return path


@pytest.fixture
def public(private: Path) -> Path:
    return private.with_name("key.pub.pem")


@pytest.fixture
def signed(exported: Path, private: Path) -> Path:
    SigningKey(private).sign(exported)
    return exported


def test_a_signed_export_passes_with_its_key(signed: Path, public: Path) -> None:
    result = verify_folder(signed, public)
    assert (result.passed, result.signed) == (True, True)


def test_the_private_key_is_for_its_owner_only(private: Path) -> None:
    assert private.stat().st_mode & 0o077 == 0


def test_a_key_is_never_overwritten(private: Path) -> None:
    before = private.read_bytes()
    with pytest.raises(CompressError, match=r"key\.pem.*exists"):
        new_key(private)
    assert private.read_bytes() == before


def test_a_manifest_that_changed_after_signing_is_a_fault(signed: Path, public: Path) -> None:
    path = signed / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    result = verify_folder(signed, public)
    assert result.signed is False
    assert [fault.file for fault in result.faults] == ["manifest.json.sig"]
    assert "changed" in result.faults[0].said


def test_the_key_of_another_is_a_fault(signed: Path, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other.pem")
    assert [fault.check for fault in verify_folder(signed, other).faults] == ["signature"]


def test_a_missing_signature_is_a_fault_if_a_key_is_given(exported: Path, public: Path) -> None:
    assert "is missing" in verify_folder(exported, public).faults[0].said
    assert verify_folder(exported).passed


def test_a_signature_cut_short_is_a_fault(signed: Path, public: Path) -> None:
    path = signed / manifest.SIGNATURE
    path.write_bytes(path.read_bytes()[:40])
    assert "40 bytes" in verify_folder(signed, public).faults[0].said


def test_without_a_key_a_signature_is_reported_as_not_checked(signed: Path) -> None:
    result = verify_folder(signed)
    assert (result.passed, result.signed) == (True, None)
    assert "not checked" in result.findings[0].said


def test_an_encrypted_key_signs_with_its_password(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Ed25519PrivateKey.generate()
    path = tmp_path / "locked.pem"
    path.write_bytes(key.private_bytes(*PKCS8, form.BestAvailableEncryption(b"secret")))
    with pytest.raises(CompressError, match="is encrypted") as caught:
        SigningKey(path)
    assert caught.value.exit is Exit.MISSING
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(CompressError, match="cannot be decrypted"):
        SigningKey(path)
    monkeypatch.setenv(PASSWORD, "secret")
    assert SigningKey(path).sign(exported).stat().st_size == 64


def test_keys_of_openssh_are_read(exported: Path, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "id", tmp_path / "id.pub"
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH))
    SigningKey(private).sign(exported)
    assert verify_folder(exported, public).signed


def test_other_kinds_of_keys_are_named(tmp_path: Path) -> None:
    for kind, key in (
        ("RSA", rsa.generate_private_key(65537, 2048)),
        ("EC", ec.generate_private_key(ec.SECP256R1())),
    ):
        private, public = tmp_path / f"{kind}.pem", tmp_path / f"{kind}.pub"
        private.write_bytes(key.private_bytes(*PKCS8, form.NoEncryption()))
        public.write_bytes(
            key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        )
        for make, path in ((SigningKey, private), (PublicKey, public)):
            with pytest.raises(CompressError, match=f"kind {kind}") as caught:
                make(path)
            assert "--new-key" in caught.value.hint


def test_the_wrong_half_of_a_pair_is_named(private: Path, public: Path) -> None:
    with pytest.raises(CompressError, match="is a private key"):
        PublicKey(private)
    with pytest.raises(CompressError, match="is a public key"):
        SigningKey(public)


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"x" * 99_999])
def test_an_invalid_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.pem"
    path.write_bytes(content)
    with pytest.raises(CompressError) as caught:
        SigningKey(path)
    assert caught.value.code == "wrong-key"
    with pytest.raises(CompressError):
        PublicKey(path)


def test_a_key_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for make in (SigningKey, PublicKey):
        with pytest.raises(CompressError) as caught:
            make(tmp_path / "none.pem")
        assert caught.value.exit is Exit.MISSING
