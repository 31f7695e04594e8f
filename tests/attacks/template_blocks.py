"""Five thousand blocks inside each other."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{% if 1 %}" * 5000 + "x" + "{% endif %}" * 5000)
