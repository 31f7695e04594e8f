"""A statistic that ends behind the file."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    header, data = hostile.prior_header(artifact)
    hostile.put(artifact, "prior.safetensors", hostile.safetensors(header, data[:-4]))
