"""A small file that claims a tensor of 2^40 values."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    header, data = hostile.prior_header(artifact)
    for entry in header.values():
        entry["shape"] = [2**20, 2**20]
    hostile.put(artifact, "prior.safetensors", hostile.safetensors(header, data))
