"""A prior of NaN."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    header, data = hostile.prior_header(artifact)
    hostile.put(
        artifact,
        "prior.safetensors",
        hostile.safetensors(header, b"\x00\x00\xc0\x7f" * (len(data) // 4)),
    )
