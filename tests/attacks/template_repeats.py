"""A text repeated 10^12 times."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{{ 'a' * 1000000000000 }}")
