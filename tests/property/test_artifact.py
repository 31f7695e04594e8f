"""Whatever happens to an artifact's files, opening it raises ArtifactError and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_artifact
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from glass_export.artifact import CHECKSUM_NAME, SIGNATURE_NAME, Artifact, SigningKey, sign_artifact
from glass_export.artifact.reader import checksum_line
from glass_export.errors import ArtifactError

FILES = [
    "decode.onnx", "glass.json", "glass.json.sha256", "prefill.onnx", "prior.safetensors",
    "tokenizer.json", "weights.bin",
]  # fmt: skip


@pytest.fixture(scope="module")
def intact() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        artifact = tiny_artifact.write(Path(folder) / "tiny")
        assert sorted(p.name for p in artifact.iterdir()) == FILES
        yield artifact


def _must_be_refused(intact: Path, name: str, content: bytes | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        damaged = Path(folder) / "tiny"
        shutil.copytree(intact, damaged)
        if content is None:
            (damaged / name).unlink()
        else:
            (damaged / name).write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            Artifact.open(damaged, check="full")
        assert str(damaged) in str(caught.value)


@given(st.sampled_from(FILES), st.integers(0), st.integers(1, 255))
def test_any_changed_byte(intact: Path, name: str, position: int, flip: int) -> None:
    content = bytearray((intact / name).read_bytes())
    content[position % len(content)] ^= flip
    _must_be_refused(intact, name, bytes(content))


@given(st.sampled_from(FILES), st.integers(0))
def test_any_truncation(intact: Path, name: str, length: int) -> None:
    content = (intact / name).read_bytes()
    _must_be_refused(intact, name, content[: length % len(content)])


@given(st.sampled_from(FILES), st.binary(min_size=1))
def test_any_appended_bytes(intact: Path, name: str, more: bytes) -> None:
    _must_be_refused(intact, name, (intact / name).read_bytes() + more)


@pytest.mark.parametrize("name", FILES)
def test_any_removal(intact: Path, name: str) -> None:
    _must_be_refused(intact, name, None)


KEY = SigningKey(Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def signed() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        artifact = tiny_artifact.write(Path(folder) / "tiny")
        sign_artifact(artifact, KEY)
        Artifact.open(artifact, trusted_keys=[KEY.public.text])
        yield artifact


@given(st.sampled_from([*FILES, SIGNATURE_NAME]), st.integers(0), st.integers(1, 255))
def test_any_changed_byte_of_a_signed_artifact(
    signed: Path, name: str, position: int, flip: int
) -> None:
    """Where an attacker also makes the checksum of the manifest fit."""
    content = bytearray((signed / name).read_bytes())
    content[position % len(content)] ^= flip
    with tempfile.TemporaryDirectory() as folder:
        damaged = Path(folder) / "tiny"
        shutil.copytree(signed, damaged)
        (damaged / name).write_bytes(content)
        if name == "glass.json":
            (damaged / CHECKSUM_NAME).write_bytes(checksum_line(bytes(content)))
        with pytest.raises(ArtifactError):
            Artifact.open(damaged, trusted_keys=[KEY.public.text])
