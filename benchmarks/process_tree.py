"""Processor time and memory of a process and all that it started, as Linux counts them."""

import os
import time

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cpu_seconds(pid: int) -> float:
    """Processor time so far of a process and its descendants, ended ones included.

    Where the system has no /proc, that of this process alone.
    """
    if not os.path.isdir("/proc/self"):
        return time.process_time()
    # utime, stime, and the same of the children that were waited for.
    return sum(sum(map(int, stat[11:15])) for stat in _stats(pid)) / _TICK


def descendants(pid: int) -> list[int]:
    """The processes that a process started and that run, and theirs in turn."""
    children, found = _children_by_parent(), []
    waiting = [pid]
    while waiting:
        started = children.get(waiting.pop(), [])
        found += started
        waiting += started
    return found


def memory_bytes(pid: int, field: str) -> int:
    """A field of /proc/PID/status, such as VmRSS or VmHWM, in bytes; 0 where there is none."""
    try:
        with open(f"/proc/{pid}/status") as lines:
            for line in lines:
                if line.startswith(f"{field}:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _stats(pid):
    for each in (pid, *descendants(pid)):
        if (stat := _stat(each)) is not None:
            yield stat


def _stat(pid):
    """The fields of /proc/PID/stat after the name, which may hold spaces; None if it ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _children_by_parent():
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(name)) is not None:
            children.setdefault(int(stat[1]), []).append(int(name))
    return children
