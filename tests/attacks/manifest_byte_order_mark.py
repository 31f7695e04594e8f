"""The manifest begins with a byte order mark, which JSON must not."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "json"


def attack(artifact: Path) -> None:
    hostile.seal(artifact, b"\xef\xbb\xbf" + hostile.manifest_text(artifact).encode())
