"""Running an artifact must not need what exporting one needs."""

from __future__ import annotations

import subprocess
import sys


def test_the_runtime_imports_no_export_package() -> None:
    program = (
        "import sys, glass_export.runtime, glass_export.scoring;"
        "print({m.partition('.')[0] for m in sys.modules} & {'torch', 'transformers', 'onnx'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
