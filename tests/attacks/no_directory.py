"""The directory is a file."""

from __future__ import annotations

import shutil
from pathlib import Path

CODE = "no-artifact"


def attack(artifact: Path) -> None:
    shutil.rmtree(artifact)
    artifact.write_bytes(b"")
