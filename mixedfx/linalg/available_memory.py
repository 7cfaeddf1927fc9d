"""Memory that this process can still allocate, and its comparison with what a computation needs.

The least of what the machine has available, of what its control group (a container's limit) leaves,
and of the limit on the address space (``ulimit -v``). Where none is known, 16 GB are assumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixedfx.errors import SizeError

_ASSUMED = 16_000_000_000
# So few bytes are not compared with what is available: reading that takes 0.2 ms.
_ALWAYS_AVAILABLE = 100_000
# Limit and use of the control group, by the names of its second and first version.
_CONTROL_GROUP = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def check_memory(what: str, n_bytes: float, *, copies: int, advice: str, held: float = 0.0) -> None:
    """Raise a SizeError unless so many copies of an array of so many bytes can be allocated.

    The bytes that are ``held`` count as available: they are part of the copies, or will be given
    back while these are made.
    """
    if is_always_available(copies * n_bytes):
        return
    available = available_memory() + held
    if copies * n_bytes > available:
        needed = f", of which the fit needs about {copies} copies" if copies > 1 else ""
        raise SizeError(
            f"{what}: {size_text(n_bytes)}{needed}, and {size_text(available)} of memory are "
            f"available. {advice}"
        )


def is_always_available(n_bytes: float) -> bool:
    """Whether so few bytes are not compared with what is available."""
    return n_bytes < _ALWAYS_AVAILABLE


@contextmanager
def memory_errors_named() -> Iterator[None]:
    """Turn a MemoryError, which no check foresaw, into a SizeError."""
    try:
        yield
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        raise SizeError(
            f"the fit needs more memory than the {size_text(available_memory())} available"
            f"{reason}. Leave terms out, fit a part of the rows, or use a machine with more memory."
        ) from None


def size_text(n_bytes: float) -> str:
    """Number of bytes in GB, or in MB below one GB."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"


def available_memory() -> float:
    """Bytes that can be allocated now."""
    return min(_limits(), default=_ASSUMED)


def _limits() -> Iterator[float]:
    if (free := _memory_of_machine()) is not None:
        yield free
    for limit, used in _CONTROL_GROUP:
        total, current = (_number(Path("/sys/fs/cgroup") / name) for name in (limit, used))
        if total is not None and current is not None:
            yield max(total - current, 0.0)
    if (left := _address_space()) is not None:
        yield left


def _memory_of_machine() -> float | None:
    """Memory available to new allocations: on Linux with what caches would give back."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kilobytes = next(line for line in lines if line.startswith("MemAvailable:")).split()[1]
        return 1024.0 * int(kilobytes)
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # "max": without a limit
        return None


def _address_space() -> float | None:
    """What the limit on the address space leaves."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(float(limit) - pages * os.sysconf("SC_PAGE_SIZE"), 0.0)
    except (ImportError, OSError, ValueError):
        return None
