"""Loops inside of loops."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(
        artifact, "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
    )
