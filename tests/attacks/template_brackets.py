"""Ten thousand brackets, to use up the stack."""

from __future__ import annotations

from pathlib import Path

import hostile

CODE = "template"


def attack(artifact: Path) -> None:
    hostile.put_template(artifact, "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}")
