"""The library of ONNX Runtime that its Python packages hold, for this machine and for Arm."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata, util
from pathlib import Path

from filelock import FileLock

from glass_export.paths import cache_dir

_PATTERN = "onnxruntime/capi/libonnxruntime.so.*"
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64")


def installed() -> Path:
    """That of the installed package."""
    found = util.find_spec("onnxruntime")
    assert found is not None and found.origin is not None
    (library,) = Path(found.origin).parent.parent.glob(_PATTERN)
    return library


def for_arm() -> Path:
    """That of the same release for 64-bit Arm, from the package index; kept in the cache."""
    version = metadata.version("onnxruntime")
    folder = cache_dir() / "native" / f"onnxruntime-{version}-aarch64"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not list(folder.glob(_PATTERN)):
            _unpack(_download(version), folder)
    (library,) = folder.resolve().glob(_PATTERN)
    return library


def _unpack(wheel: bytes, folder: Path) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(wheel)
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if Path(name).match(_PATTERN)]
            archive.extractall(folder, names)


def _download(version: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        platforms = [f"--platform={name}" for name in _PLATFORMS]
        subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch,
                "--only-binary=:all:", *platforms, f"onnxruntime=={version}",
            ],
            check=True,
        )  # fmt: skip
        (wheel,) = Path(scratch).glob("*.whl")
        return wheel.read_bytes()
