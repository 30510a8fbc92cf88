"""How the processes that prepare images start, which signals they pass over, and when they end."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import cv2

# A signal to the process group, as a preemption sends, must leave the workers alive until the main
# process has saved: it ends them itself.
_IGNORED_BY_WORKERS = (signal.SIGTERM, signal.SIGINT)


def read_first(iterator: Iterator) -> Any:
    """Reads the first batch, for which the workers are started.

    The thread that starts them holds signals back, and they inherit that: there is no moment in
    which a signal would end them. Meanwhile, the main thread still hears Ctrl-C.
    """
    first = futures.Future()

    def read() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED_BY_WORKERS)
        try:
            first.set_result(next(iterator))
        except BaseException as error:
            first.set_exception(error)

    threading.Thread(target=read, daemon=True).start()
    return first.result()


def start_worker(worker_index: int, worker_count: int) -> None:
    """Prepares a worker process, in it: what it ignores, and that it ends with its parent."""
    del worker_index, worker_count
    for number in _IGNORED_BY_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED_BY_WORKERS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)  # the other processors have workers of their own
    keep_freed_memory()


def _end_with_parent() -> None:
    # One that is killed ends no workers, and they would wait for it without end.
    multiprocessing.parent_process().join()
    os._exit(1)


def keep_freed_memory() -> None:
    """Tells the C library to keep the memory that images leave, for the next ones.

    Fresh memory comes from the kernel page by page, which took a third of a whole batch's time on a
    virtual machine. Does nothing where the library has no such setting.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 32 * 2**20)  # the largest that glibc takes
        libc.mallopt(m_trim_threshold, 2**30)
