"""The C library's allocator, set for a training on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3    # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let freed memory stay with the process, where the C library is glibc.

    Every step of a training asks for the same large tensors. By default glibc gives the largest back to the system when
    they are freed, and the system has to clear each page of them anew: a tenth of a step's time and more.
    """
    if not sys.platform.startswith('linux'):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL('libc.so.6')
        libc.mallopt(_MMAP_THRESHOLD, 32 * 2 ** 20)    # the most that glibc takes
        libc.mallopt(_TRIM_THRESHOLD, 2 ** 31 - 1)
        libc.mallopt(_TOP_PAD, 64 * 2 ** 20)
