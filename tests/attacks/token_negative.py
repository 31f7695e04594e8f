"""The beginning of text is token -1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"]["bos_token_id"] = -1

    hostile.edit(artifact, change)
