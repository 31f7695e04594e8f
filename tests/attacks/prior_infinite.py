"""A prior with an infinite value."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    header, data = hostile.prior_header(artifact)
    hostile.put(
        artifact, "prior.safetensors", hostile.safetensors(header, b"\x00\x00\x80\x7f" + data[4:])
    )
