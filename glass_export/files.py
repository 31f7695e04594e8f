"""Files and folders that appear whole or not at all, also when the machine dies meanwhile."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Of Linux: <fcntl.h> and <linux/fs.h>."""
_NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}
"""What systems and file systems answer that cannot exchange."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end of the block, flushed, becomes ``path``.

    Until then it is ``NAME.PID.partial``. Those of dead processes are removed.

    Raises:
        OSError: the file cannot be written; what was at ``path`` is still there.
    """
    _remove_abandoned(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder below ``parent`` that is removed when the block ends; so are abandoned ones.

    The caller holds a lock, so that nobody else has a folder with this prefix.

    Raises:
        OSError: it cannot be made.
    """
    for abandoned in parent.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
        yield Path(folder)


def exchange(first: Path, second: Path) -> bool:
    """Let two folders change names in one step.

    Returns:
        False where the system or the file system cannot; nothing has happened then.

    Raises:
        OSError: it failed.
    """
    rename = _renameat2()
    if rename is None:
        return False
    names = (os.fsencode(first), os.fsencode(second))
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), os.fspath(second))


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """Flush a folder and all that is below it. Raises OSError."""
    for path in (*root.rglob("*"), root):
        if path.is_dir() or path.is_file():
            sync(path)


@cache
def _renameat2() -> Any:
    """The C library's function; None where there is none."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return None
    function.argtypes = [
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    ]  # fmt: skip
    return function


def _remove_abandoned(path: Path) -> None:
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        owner = left.name.removesuffix(".partial").rpartition(".")[2]
        if owner.isdecimal() and not _is_alive(int(owner)):
            with suppress(OSError):
                left.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True
