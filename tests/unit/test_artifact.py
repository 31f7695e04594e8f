"""Artifacts: what open() refuses, what the writer replaces, and what a killed export leaves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import tiny_artifact

from glass_export.artifact import CHECKSUM_NAME, Artifact, ArtifactWriter
from glass_export.errors import ArtifactError

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tiny_artifact.write(tmp_path / "tiny")


def edit_manifest(root: Path, edit: Edit) -> None:
    """Change glass.json and its checksum, as someone who tampers with an artifact would."""
    data = json.loads((root / "glass.json").read_text())
    edit(data)
    content = json.dumps(data).encode()
    (root / "glass.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (root / CHECKSUM_NAME).write_text(f"{digest}  glass.json\n")


def snapshot(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_round_trip(artifact: Path) -> None:
    opened = Artifact.open(artifact, check="full")
    expected = dataclasses.replace(tiny_artifact.manifest(), files=opened.manifest.files)
    assert opened.manifest == expected
    assert {f.path for f in opened.manifest.files} == {
        "decode.onnx", "prefill.onnx", "prior.safetensors", "tokenizer.json", "weights.bin",
    }  # fmt: skip
    assert opened.graph("decode").read_bytes().endswith(b"decode")
    assert opened.file("weights.bin").stat().st_size == 64
    prior = opened.prior()
    assert sorted(prior) == ["A", "F", "G", "I"]
    assert all(p.shape == (2, 6) and p.dtype == np.float32 for p in prior.values())


def test_checksum_is_what_sha256sum_reads(artifact: Path) -> None:
    result = subprocess.run(["sha256sum", "-c", CHECKSUM_NAME], cwd=artifact, capture_output=True)
    assert result.returncode == 0, result.stderr


def test_unknown_file_and_graph_name_the_known_ones(artifact: Path) -> None:
    opened = Artifact.open(artifact)
    with pytest.raises(ArtifactError, match=r"no file 'nope'.*decode\.onnx"):
        opened.file("nope")
    with pytest.raises(ArtifactError, match="no graph 'train'.*prefill, decode"):
        opened.graph("train")


@pytest.mark.parametrize("name", ["weights.bin", "decode.onnx", "glass.json", CHECKSUM_NAME])
def test_missing_file(artifact: Path, name: str) -> None:
    (artifact / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        Artifact.open(artifact)


def test_size_is_always_checked_and_content_on_request(artifact: Path) -> None:
    weights = artifact / "weights.bin"
    weights.write_bytes(b"x" * 64)
    Artifact.open(artifact)
    with pytest.raises(ArtifactError, match=r"weights\.bin: altered; SHA-256"):
        Artifact.open(artifact, check="full")
    weights.write_bytes(b"x" * 63)
    with pytest.raises(ArtifactError, match=r"weights\.bin: got 63 bytes, expected 64"):
        Artifact.open(artifact)


def test_edited_manifest_without_its_checksum(artifact: Path) -> None:
    text = (artifact / "glass.json").read_text()
    (artifact / "glass.json").write_text(text.replace('"tiny"', '"tinx"'))
    with pytest.raises(ArtifactError, match=r"glass\.json: altered"):
        Artifact.open(artifact)


def test_no_directory_and_other_directory(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such directory; export a model first"):
        Artifact.open(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match=r"no glass\.json"):
        Artifact.open(tmp_path)


def test_newer_schema(artifact: Path) -> None:
    edit_manifest(artifact, lambda data: data.update(schema_version=99, new_key=1))
    with pytest.raises(ArtifactError, match="schema_version is 99.*update glass-export"):
        Artifact.open(artifact)


def _set(path: str, value: Any) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
        for part in parents:
            data = data[part]
        data[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set("files.0.path", "/etc/passwd"), "plain relative path"),
        (_set("files.0.path", "../outside"), "plain relative path"),
        (_set("files.0.path", "a/../../outside"), "plain relative path"),
        (_set("files.0.path", "a\\b"), "plain relative path"),
        (_set("files.0.path", "a\0b"), "plain relative path"),
        (_set("files.0.path", "\ud800"), "not valid JSON"),
        (_set("files.0.path", ""), "plain relative path"),
        (_set("files.0.path", "x" * 5000), "plain relative path"),
        (_set("files.0.path", "weights.bin"), "listed twice"),
        (_set("files.0.path", "Weights.bin"), "listed twice"),
        (_set("target.graphs.decode", "other.onnx"), "'other.onnx' is used but not in files"),
        (_set("target.weights", "other.bin"), "'other.bin' is used but not in files"),
        (_set("target.prefill_chunk", 0), "prefill_chunk"),
        (_set("target.tensors.0.offset", -1), "outside the file"),
        (_set("target.tensors.1.offset", 49), "outside the file of 64 bytes"),
        (_set("target.tensors.0.nbytes", 31), "need 32"),
        (_set("target.tensors.0.shape", [-4, -2]), "nbytes"),
        (_set("target.tensors.0.dtype", "float31"), "unknown dtype 'float31'"),
        (_set("target.tensors.0.name", "norm"), "listed twice"),
        (_set("model.dims.d_ff", 0), "positive"),
        (_set("model.dims.kv_heads", 3), "multiple of kv_heads"),
        (_set("model.eos_token_ids", [16]), "outside the vocabulary"),
        (_set("model.max_length", "32"), "expected int"),
        (_set("selection.density", 2.0), "selection.density"),
        (_set("prior.statistics", ["A"]), "selection.prior"),
        (_set("surprise", 1), "unknown key 'surprise'"),
    ],
)
def test_tampered_manifest(artifact: Path, edit: Edit, message: str) -> None:
    edit_manifest(artifact, edit)
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(artifact)


def test_links_may_not_leave_the_artifact(artifact: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((artifact / "weights.bin").read_bytes())
    (artifact / "weights.bin").unlink()
    (artifact / "weights.bin").symlink_to(outside)
    with pytest.raises(ArtifactError, match="links to outside"):
        Artifact.open(artifact, check="full")


def test_link_loop_and_directory_instead_of_a_file(artifact: Path) -> None:
    weights = artifact / "weights.bin"
    weights.unlink()
    weights.symlink_to(weights)
    with pytest.raises(ArtifactError, match=r"weights\.bin"):
        Artifact.open(artifact)
    weights.unlink()
    weights.mkdir()
    with pytest.raises(ArtifactError, match="not a file"):
        Artifact.open(artifact)


def _write_prior(root: Path, tensors: dict[str, np.ndarray]) -> None:
    with ArtifactWriter(root) as writer:
        tiny_artifact.fill(writer.path)
        (writer.path / "prior.safetensors").write_bytes(safetensors.numpy.save(tensors))
        writer.commit(tiny_artifact.manifest())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((2, 5), 0.5, np.float32), r"'A' is float32\[2, 5\], expected float32\[2, 6\]"),
        (np.full((2, 6), 0.5, np.float64), "'A' is float64"),
        (np.full((2, 6), np.nan, np.float32), "'A' holds NaN"),
        (None, "statistic 'A' is missing"),
    ],
)
def test_unusable_prior(tmp_path: Path, value: np.ndarray | None, message: str) -> None:
    good = np.full((2, 6), 0.5, np.float32)
    tensors = {name: good for name in "IGF"} | ({} if value is None else {"A": value})
    _write_prior(tmp_path / "tiny", tensors)
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(tmp_path / "tiny").prior()


def test_replacing_leaves_nothing_of_the_old_artifact(artifact: Path) -> None:
    with ArtifactWriter(artifact) as writer:
        tiny_artifact.fill(writer.path)
        (writer.path / "extra").mkdir()
        (writer.path / "extra" / "notes.txt").write_text("new")
        writer.commit(tiny_artifact.manifest())
    assert Artifact.open(artifact, check="full").file("extra/notes.txt").read_text() == "new"
    tiny_artifact.write(artifact)
    assert not (artifact / "extra").exists()
    assert sorted(p.name for p in artifact.parent.iterdir()) == [".tiny.lock", "tiny"]


def test_sealed_directory_opens_before_the_commit(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "tiny") as writer:
        tiny_artifact.fill(writer.path)
        sealed = writer.seal(tiny_artifact.manifest())
        assert Artifact.open(writer.path, check="full").manifest == sealed
        (writer.path / "decode.onnx").write_bytes(b"\x12\x05later")
        writer.commit(sealed)
    later = Artifact.open(tmp_path / "tiny", check="full").graph("decode")
    assert later.read_bytes().endswith(b"later")


def test_failed_export_keeps_the_old_artifact(artifact: Path) -> None:
    before = snapshot(artifact)
    with pytest.raises(RuntimeError, match="half way"), ArtifactWriter(artifact) as writer:
        tiny_artifact.fill(writer.path)
        raise RuntimeError("half way")
    assert snapshot(artifact) == before
    assert sorted(p.name for p in artifact.parent.iterdir()) == [".tiny.lock", "tiny"]


def test_refuses_what_is_not_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="is a file"):
        tiny_artifact.write(tmp_path / "file")
    with pytest.raises(ArtifactError, match="not empty and not an artifact"):
        tiny_artifact.write(tmp_path / "folder")
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "mine"


def test_refuses_to_lose_a_file_beside_the_artifact(artifact: Path) -> None:
    (artifact / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"'thesis\.txt' is not part of the artifact"):
        tiny_artifact.write(artifact)
    (artifact / "glass.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        tiny_artifact.write(artifact)
    assert (artifact / "thesis.txt").read_text() == "mine"


def test_empty_directory_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    tiny_artifact.write(tmp_path / "tiny")
    Artifact.open(tmp_path / "tiny", check="full")


def test_damaged_artifact_may_be_replaced(artifact: Path) -> None:
    (artifact / "weights.bin").unlink()
    (artifact / "decode.onnx").write_bytes(b"")
    tiny_artifact.write(artifact)
    Artifact.open(artifact, check="full")


def test_linked_output_stays_a_link(artifact: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(artifact)
    tiny_artifact.write(link)
    assert link.is_symlink()
    Artifact.open(link, check="full")


WRITE = """
    import sys, time
    from pathlib import Path
    import tiny_artifact
    from glass_export.artifact import ArtifactWriter
    with ArtifactWriter(Path(sys.argv[1])) as writer:
        tiny_artifact.fill(writer.path)
        {step}
        print("ready", flush=True)
        time.sleep(60)
"""


def _start(output: Path, step: str = "") -> subprocess.Popen[str]:
    code = textwrap.dedent(WRITE).format(step=step)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(output)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_output_in_use_then_killed(artifact: Path) -> None:
    before = snapshot(artifact)
    process = _start(artifact)
    try:
        with pytest.raises(ArtifactError, match="in use by another export"):
            tiny_artifact.write(artifact)
        partial = artifact.parent / f".tiny.partial-{process.pid}"
        assert partial.is_dir()
    finally:
        _kill(process)
    assert partial.is_dir() and snapshot(artifact) == before
    tiny_artifact.write(artifact)
    assert not partial.exists()


def test_killed_between_the_two_renames(artifact: Path) -> None:
    before = snapshot(artifact)
    step = "writer.seal(tiny_artifact.manifest()); writer.output.rename(writer._old)"
    _kill(_start(artifact, step))
    with pytest.raises(ArtifactError, match=r"interrupted, rename .*\.tiny\.old"):
        Artifact.open(artifact)
    with pytest.raises(RuntimeError), ArtifactWriter(artifact):
        assert snapshot(artifact) == before
        raise RuntimeError
    assert snapshot(artifact) == before


def test_killed_before_the_old_artifact_is_removed(artifact: Path) -> None:
    step = "writer.seal(tiny_artifact.manifest()); writer._swap()"
    _kill(_start(artifact, step))
    Artifact.open(artifact, check="full")
    tiny_artifact.write(artifact)
    assert sorted(p.name for p in artifact.parent.iterdir()) == [".tiny.lock", "tiny"]


def test_too_little_space_is_told_before_work_starts(tmp_path: Path) -> None:
    output = tmp_path / "tiny"
    with (
        pytest.raises(ArtifactError, match=r"needs about 1,000,000,000,000\.0 MB, .* are free"),
        ArtifactWriter(output, expected_bytes=10**18),
    ):
        pass
    assert not output.exists()


def test_too_little_space_is_told_when_the_size_is_known(artifact: Path) -> None:
    before = snapshot(artifact)
    with pytest.raises(ArtifactError, match="disk too full"), ArtifactWriter(artifact) as writer:
        writer.require(10**18)
    assert snapshot(artifact) == before


def test_disk_full_while_writing(tmp_path: Path) -> None:
    """A limit on the file size makes write() fail like a full disk does."""
    artifact = tiny_artifact.write(tmp_path / "tiny")
    before = snapshot(artifact)
    code = """
        import resource, sys
        from pathlib import Path
        from glass_export.artifact import ArtifactWriter
        from glass_export.errors import ArtifactError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with ArtifactWriter(Path(sys.argv[1]), expected_bytes=2000) as writer:
                (writer.path / "weights.bin").write_bytes(bytes(2000))
        except ArtifactError as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(artifact)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "disk full" in result.stdout and "needed" in result.stdout, result
    assert snapshot(artifact) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tiny.lock", "tiny"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_really_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk])
    if mount.returncode:
        pytest.skip("mount is not permitted here")
    try:
        artifact = tiny_artifact.write(disk / "tiny")
        before = snapshot(artifact)
        with (
            pytest.raises(ArtifactError, match="disk full.*MB were left"),
            ArtifactWriter(artifact) as writer,
        ):
            tiny_artifact.fill(writer.path)
            (writer.path / "weights.bin").write_bytes(bytes(100_000))
        assert snapshot(artifact) == before
    finally:
        subprocess.run(["umount", disk], check=True)
