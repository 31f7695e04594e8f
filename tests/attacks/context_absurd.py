"""A context of 2^40 tokens: its cache would take all memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"]["max_length"] = 2**40

    hostile.edit(artifact, change)
