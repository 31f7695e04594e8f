"""The manifest is not UTF-8."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "encoding"


def attack(artifact: Path) -> None:
    content = hostile.manifest_text(artifact).encode().replace(b"llama", b"ll\xffma", 1)
    hostile.seal(artifact, content)
