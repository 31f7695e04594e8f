"""The command line ``glass-export``. Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line on ``sys.argv`` and exit."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run the command line on ``args`` and return its exit code."""
    from glass_export import console
    from glass_export.cli.app import app
    from glass_export.errors import GlassError

    try:
        app(args, prog_name="glass-export")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except GlassError as problem:
        console.error(str(problem))
        return problem.exit_code
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as problem:
        return _not_installed(problem)
    except Exception as problem:
        return _unexpected(problem)
    return 0


def _not_installed(problem: ModuleNotFoundError) -> int:
    """An extra of the package is needed and missing; of our own modules, it is a bug."""
    from glass_export import console

    name = (problem.name or "").partition(".")[0]
    if name == "glass_export":
        return _unexpected(problem)
    extra = {"onnxruntime": name, "executorch": name, "cryptography": "signing"}.get(name, "export")
    console.error(f"{name} is not installed; run: pip install 'glass-export[{extra}]'")
    return 1


def _unexpected(problem: Exception) -> int:
    """A bug or a failing machine: say so shortly; the traceback is for ``-v``."""
    from glass_export import console

    hint = ""
    if console.verbose():
        console.stderr.print_exception(max_frames=20)
    else:
        hint = "; this error is not an expected one, `glass-export -v ...` shows where it is from"
    console.error(f"{type(problem).__name__}: {problem}{hint}")
    return 1
