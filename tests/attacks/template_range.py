"""A range of 10^15 numbers."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(
        artifact,
        "{% for a in range(10**15) %}x{% endfor %}{{ range(1000000000000000)|list }}".replace(
            "10**15", "1000000000000000"
        ),
    )
