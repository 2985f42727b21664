"""How many threads a run computes on."""

from graphrt.runtime.kernels._threads import divide, limit_threads, share, thread_count

__all__ = ["divide", "limit_threads", "share", "thread_count"]
