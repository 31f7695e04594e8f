"""The end of text is a token that there is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile

CODE = "manifest"


def attack(artifact: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["model"]["eos_token_ids"] = [320]

    hostile.edit(artifact, change)
