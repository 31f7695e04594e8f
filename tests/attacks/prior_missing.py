"""A statistic that the manifest names is missing."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "prior"


def attack(artifact: Path) -> None:
    header, data = hostile.prior_header(artifact)
    header["X"] = header.pop("A")
    hostile.put(artifact, "prior.safetensors", hostile.safetensors(header, data))
