"""A sum of ten thousand terms, which parsers follow by calling themselves."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{{ " + " + ".join(["1"] * 10_000) + " }}")
