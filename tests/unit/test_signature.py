"""Signed artifacts: keys, signatures, what is refused, and that C++ and Python agree."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import native_build
import pytest
import tiny_artifact
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from glass_export.artifact import (
    SIGNATURE_NAME,
    Artifact,
    PublicKey,
    SigningKey,
    generate_key,
    sign_artifact,
    write_profile,
)
from glass_export.artifact.signing import PASSPHRASE
from glass_export.cli import run
from glass_export.cli.app import app
from glass_export.errors import ArtifactError, SigningError
from glass_export.runtime import Session
from glass_export.selection import Profile

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "ed25519.json").read_text())
KEY, OTHER = (
    SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["secret"])))
    for vector in VECTORS[:2]
)
TRUSTED, UNTRUSTED = [KEY.public.text], [OTHER.public.text]
TUNED = Profile(density=0.25)

Ask = Callable[[str], str]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tiny_artifact.write(tmp_path / "tiny")


@pytest.fixture
def signed(artifact: Path) -> Path:
    sign_artifact(artifact, KEY)
    return artifact


@pytest.fixture(scope="module")
def cpp(native_tests: Path) -> Iterator[Ask]:
    """``cpp(request)``: what signature_server answers."""
    yield from _server(native_tests / "csrc" / "tests")


def _server(build: Path) -> Iterator[Ask]:
    program = build / "signature_server"
    process = subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )

    def ask(request: str) -> str:
        assert process.stdin and process.stdout
        process.stdin.write(request + "\n")
        process.stdin.flush()
        return process.stdout.readline().rstrip("\n")

    yield ask
    process.communicate()
    assert process.returncode == 0


def refused(artifact: Path, keys: list[str], cpp: Ask | None = None) -> str:
    """Why Python refuses an artifact; C++ must refuse it, too, as a bad artifact."""
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(artifact, trusted_keys=keys)
    if cpp:
        assert cpp(f"open {artifact} {' '.join(keys)}").startswith("2 "), str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["source"])
def test_known_answers(vector: dict[str, str], cpp: Ask) -> None:
    secret, public, signature = (
        bytes.fromhex(vector[name]) for name in ("secret", "public", "signature")
    )
    message = bytes.fromhex(vector["message"])
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(secret))
    assert key.public.raw == public and key.private.sign(message) == signature
    assert key.public.verifies(signature, message)
    words = f"{vector['public']} {vector['signature']} {vector['message']}"
    assert cpp(f"verify {words}") == "yes"
    assert cpp(f"sign {vector['secret']} {vector['public']} {vector['message']}") == signature.hex()
    for at in range(0, len(signature), 7):
        wrong = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        assert not key.public.verifies(wrong, message)
        assert cpp(f"verify {public.hex()} {wrong.hex()} {vector['message']}") == "no"


def test_a_scalar_beyond_the_order_is_refused(cpp: Ask) -> None:
    """RFC 8032, 5.1.7: S + L would make a second signature of the same bytes."""
    order = 2**252 + 27742317777372353535851937790883648493
    signature = KEY.private.sign(b"text")
    scalar = int.from_bytes(signature[32:], "little") + order
    second = signature[:32] + scalar.to_bytes(32, "little")
    assert not KEY.public.verifies(second, b"text")
    assert cpp(f"verify {KEY.public.raw.hex()} {second.hex()} {b'text'.hex()}") == "no"


def test_a_signed_artifact_opens(signed: Path, cpp: Ask) -> None:
    opened = Artifact.open(signed, trusted_keys=[*UNTRUSTED, *TRUSTED])
    assert opened == Artifact.open(signed, check="full") == Artifact.open(signed)
    assert cpp(f"open {signed} {UNTRUSTED[0]} {TRUSTED[0]}") == "ok"
    line = (signed / SIGNATURE_NAME).read_text()
    signature = base64.b64encode(KEY.private.sign((signed / "glass.json").read_bytes())).decode()
    assert line == f"ed25519 {KEY.public.id} {signature}\n"
    assert SIGNATURE_NAME not in [entry.path for entry in opened.manifest.files]


def test_keys_may_be_given_as_one_text(signed: Path) -> None:
    Artifact.open(signed, trusted_keys=f" {UNTRUSTED[0]}\n{TRUSTED[0]}\n")


def test_what_is_not_signed_by_a_trusted_key_is_refused(artifact: Path, cpp: Ask) -> None:
    assert "not signed, no glass.json.sig" in refused(artifact, TRUSTED, cpp)
    sign_artifact(artifact, OTHER)
    message = refused(artifact, TRUSTED, cpp)
    assert f"signed by {OTHER.public.id}, not by a trusted key" in message
    assert KEY.public.id in message


def test_a_signature_of_another_artifact_is_refused(signed: Path, tmp_path: Path, cpp: Ask) -> None:
    other = tiny_artifact.write(tmp_path / "other")
    write_profile(other, "tuned", TUNED)
    shutil.copy(signed / SIGNATURE_NAME, other)
    assert "altered since it was signed" in refused(other, TRUSTED, cpp)


def test_a_key_id_says_nothing_by_itself(artifact: Path, cpp: Ask) -> None:
    """Somebody else's signature under the id of a trusted key."""
    sign_artifact(artifact, OTHER)
    path = artifact / SIGNATURE_NAME
    path.write_text(path.read_text().replace(OTHER.public.id, KEY.public.id))
    assert "altered since it was signed" in refused(artifact, TRUSTED, cpp)


@pytest.mark.parametrize("name", ["weights.bin", "prior.safetensors", "tokenizer.json"])
def test_every_file_is_covered(signed: Path, name: str, cpp: Ask) -> None:
    content = bytearray((signed / name).read_bytes())
    content[-1] ^= 1
    (signed / name).write_bytes(content)
    Artifact.open(signed)  # sizes alone
    assert f"{name}: altered" in refused(signed, TRUSTED, cpp)


def test_a_manifest_is_not_parsed_before_its_signature_is_checked(signed: Path, cpp: Ask) -> None:
    (signed / "glass.json").write_bytes(b"[" * 100_000)
    assert "altered since it was signed" in refused(signed, TRUSTED, cpp)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-1],
        lambda line: line + b"\n",
        lambda line: b"",
        lambda line: line.replace(b"ed25519", b"ED25519"),
        lambda line: line.replace(b"ed25519 ", b"ed25519\t"),
        lambda line: line[:-4] + bytes([line[-4] + 1]) + line[-3:],  # bits that base64 leaves out
        lambda line: line * 17,
        lambda line: line + b"x" * 1_000_000,
    ],
)
def test_a_damaged_signature_file_is_refused(
    signed: Path, damage: Callable[[bytes], bytes], cpp: Ask
) -> None:
    path = signed / SIGNATURE_NAME
    path.write_bytes(damage(path.read_bytes()))
    assert SIGNATURE_NAME in refused(signed, TRUSTED, cpp)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_no_file_in_the_place_of_the_signature(
    signed: Path, make: Callable[[Path], None], cpp: Ask
) -> None:
    (signed / SIGNATURE_NAME).unlink()
    make(signed / SIGNATURE_NAME)
    assert "not signed" in refused(signed, TRUSTED, cpp)


@pytest.mark.parametrize("key", ["", "no key", "AAAA", TRUSTED[0][:-1], TRUSTED[0][:-2] + "p="])
def test_what_is_no_public_key(signed: Path, key: str, cpp: Ask) -> None:
    with pytest.raises(SigningError, match="trusted key"):
        Artifact.open(signed, trusted_keys=[key])
    assert cpp(f"open {signed} {key}").startswith("trusted keys: got")


def test_an_empty_list_of_keys_is_no_permission(signed: Path) -> None:
    with pytest.raises(SigningError, match="got none"):
        Artifact.open(signed, trusted_keys=[])


def test_several_keys_may_sign(signed: Path, cpp: Ask) -> None:
    sign_artifact(signed, OTHER)
    sign_artifact(signed, KEY)  # again: in the place of its first
    lines = (signed / SIGNATURE_NAME).read_text().splitlines()
    assert [line.split()[1] for line in lines] == [OTHER.public.id, KEY.public.id]
    for keys in (TRUSTED, UNTRUSTED):
        Artifact.open(signed, trusted_keys=keys)
        assert cpp(f"open {signed} {keys[0]}") == "ok"


def test_more_signatures_than_a_reader_takes_are_not_made(artifact: Path) -> None:
    for _ in range(16):
        sign_artifact(artifact, SigningKey(Ed25519PrivateKey.generate()))
    before = (artifact / SIGNATURE_NAME).read_bytes()
    with pytest.raises(ArtifactError, match="has 16 signatures"):
        sign_artifact(artifact, KEY)
    assert (artifact / SIGNATURE_NAME).read_bytes() == before


def test_a_damaged_artifact_is_not_signed(artifact: Path) -> None:
    (artifact / "weights.bin").write_bytes(bytes(64))
    with pytest.raises(ArtifactError, match="weights.bin: altered"):
        sign_artifact(artifact, KEY)
    assert not (artifact / SIGNATURE_NAME).exists()


def test_a_profile_makes_the_signature_go(signed: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="glass_export"):
        write_profile(signed, "tuned", TUNED)
    assert "removed the signature" in caplog.text and "glass-export sign" in caplog.text
    assert "not signed" in refused(signed, TRUSTED)
    Artifact.open(signed, check="full")


def test_a_profile_may_be_signed_at_once(signed: Path) -> None:
    sign_artifact(signed, OTHER)
    write_profile(signed, "tuned", TUNED, key=KEY)
    assert "tuned" in Artifact.open(signed, trusted_keys=TRUSTED).manifest.profiles
    refused(signed, UNTRUSTED)


def test_an_unsigned_export_replaces_a_signed_artifact(signed: Path) -> None:
    tiny_artifact.write(signed)
    assert not (signed / SIGNATURE_NAME).exists()


def test_keys_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    public = generate_key(path)
    assert SigningKey.load(path).public == public
    assert PublicKey.parse((tmp_path / "key.pub").read_text()) == public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SigningError, match="no key is ever overwritten"):
        generate_key(path)
    assert SigningKey.load(path).public == public
    monkeypatch.setenv(PASSPHRASE, "not needed")
    with pytest.raises(SigningError, match=f"{PASSPHRASE} set to its passphrase if and only if"):
        SigningKey.load(path)


def test_an_encrypted_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    public = generate_key(path)
    assert SigningKey.load(path).public == public and b"ENCRYPTED" in path.read_bytes()
    for wrong in ("wrong", ""):
        monkeypatch.setenv(PASSPHRASE, wrong)
        with pytest.raises(SigningError, match="not a usable private key"):
            SigningKey.load(path)


def test_what_is_no_private_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(SigningError, match="cannot be read"):
        SigningKey.load(path)
    path.write_text("no key")
    with pytest.raises(SigningError, match="not a usable private key"):
        SigningKey.load(path)
    other = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(other.private_bytes(*form, serialization.NoEncryption()))
    with pytest.raises(SigningError, match="expected Ed25519"):
        SigningKey.load(path)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_openssl_reads_keys_and_signatures(signed: Path, tmp_path: Path) -> None:
    line = (signed / SIGNATURE_NAME).read_text().split()
    (tmp_path / "raw.sig").write_bytes(base64.b64decode(line[2]))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = KEY.private.public_key().public_bytes(serialization.Encoding.PEM, info)
    (tmp_path / "public.pem").write_bytes(pem)
    command = [
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "public.pem", "-rawin",
        "-in", signed / "glass.json", "-sigfile", tmp_path / "raw.sig",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Verified Successfully" in done.stdout


def test_the_command_line(artifact: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    made = CliRunner().invoke(app, ["keygen", str(key)])
    assert made.exit_code == 0 and made.stdout == (tmp_path / "key.pub").read_text()
    done = CliRunner().invoke(app, ["sign", str(artifact), "--key", str(key)])
    public = PublicKey.parse(made.stdout)
    assert done.exit_code == 0 and f"signed by {public.id}" in done.stdout
    shown = CliRunner().invoke(app, ["inspect", str(artifact)], env={"COLUMNS": "200"})
    assert public.id in shown.stdout and "not checked" in shown.stdout
    Artifact.open(artifact, trusted_keys=[public.text])
    for command in ("run", "verify"):
        assert run([command, str(artifact), "--trusted-key", TRUSTED[0]]) == 1
        assert run([command, str(artifact), "--trusted-key", "no key"]) == 2


def test_an_export_signs_and_both_runtimes_ask_for_it(
    exported: Callable[..., Path],
    checkpoint: Callable[..., Path],
    recipe_of: Callable[..., object],
    tmp_path: Path,
    glass_run: Path,
) -> None:
    from glass_export.pipeline import export

    output, recipe = tmp_path / "signed", recipe_of(checkpoint("llama"), "target.name=executorch")
    export(recipe, output, key=KEY)
    with Session.open(output, trusted_keys=TRUSTED) as session:
        expected = session.generate("the quick brown fox", max_new_tokens=4)
    command = [
        glass_run, output, "--prompt", "the quick brown fox",
        "--max-new-tokens", "4", "--json", "--trusted-key",
    ]  # fmt: skip
    done = subprocess.run([*command, TRUSTED[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == expected.text
    done = subprocess.run([*command, UNTRUSTED[0]], capture_output=True, text=True)
    assert done.returncode == 1 and "not by a trusted key" in done.stderr
    done = subprocess.run([*command, "no-key"], capture_output=True, text=True)
    assert done.returncode == 2 and "--trusted-key" in done.stderr
    with pytest.raises(ArtifactError, match="not by a trusted key"):
        Session.open(output, trusted_keys=UNTRUSTED)


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["address,undefined", "thread"])
def test_the_check_in_cpp_under_sanitizers(signed: Path, sanitize: str) -> None:
    build = native_build.sanitized(sanitize) / "csrc" / "tests"
    for cpp in _server(build):
        for vector in VECTORS:
            words = f"{vector['public']} {vector['signature']} {vector['message']}"
            assert cpp(f"verify {words}") == "yes"
        assert cpp(f"open {signed} {TRUSTED[0]}") == "ok"
        (signed / SIGNATURE_NAME).write_bytes(os.urandom(500))
        assert cpp(f"open {signed} {TRUSTED[0]}").startswith("2 ")
