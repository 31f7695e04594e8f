"""A prior of whole numbers."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    header, data = hostile.prior_header(artifact)
    for entry in header.values():
        entry["dtype"] = "I32"
    hostile.put(artifact, "prior.safetensors", hostile.safetensors(header, data))
