"""A header of 2^63 bytes in a file of 16."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    hostile.put(artifact, "prior.safetensors", (2**63).to_bytes(8, "little") + b"{}      ")
