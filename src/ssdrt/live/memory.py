"""Memory of runs without end: the threads of this process share one heap."""

from __future__ import annotations

import sys
from contextlib import suppress

M_ARENA_MAX = -8  # of glibc's malloc.h


def share_arena() -> None:
    """Have glibc's malloc keep one heap for all threads, from now on; nothing on other systems.

    By default each thread gets an arena of its own. What one thread allocates and another frees, as frames and lines on
    their way to viewers and files, left arenas in pieces that grew by a megabyte an hour; shared, they stand still.
    """
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
