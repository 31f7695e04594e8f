"""The manifest ends early."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.seal(artifact, hostile.manifest_text(artifact).encode()[:-100])
