"""A chat template that is not UTF-8."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put(artifact, "chat_template.jinja", b"{{ messages }}\xff")
