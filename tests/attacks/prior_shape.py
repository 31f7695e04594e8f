"""A prior of another shape with as many values."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    header, data = hostile.prior_header(artifact)
    for entry in header.values():
        entry["shape"] = entry["shape"][::-1]
    hostile.put(artifact, "prior.safetensors", hostile.safetensors(header, data))
