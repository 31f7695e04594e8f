"""A key is given twice: readers could choose different ones."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.replace_text(
        artifact, '"schema_version": 1', '"schema_version": 1, "schema_version": 1'
    )
