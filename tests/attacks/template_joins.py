"""A long list joined by a long text."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{{ range(50000)|list|join('a' * 500000) }}")
