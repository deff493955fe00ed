"""Whether the operating system killed a process because memory ran out."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["ADVICE", "kills"]

ADVICE = (
    "fewer workers (-w), or smaller nets, train.batch_size, inference.samples or runtime.batch"
    " (--set), need less"
)
COUNTS = Path("/proc/vmstat")


def kills() -> int:
    """How many processes of this machine were killed for memory so far; 0 where nobody counts.

    Example:
        >>> kills() >= 0
        True
    """
    with contextlib.suppress(OSError, ValueError):
        for line in COUNTS.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
