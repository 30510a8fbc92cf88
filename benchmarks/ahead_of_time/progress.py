"""What a person sees while a program is compiled: minutes may go by."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Says twice a minute that the compiler still works."""
    done, start = threading.Event(), time.perf_counter()

    def report() -> None:
        while not done.wait(30):
            print(f"{what}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)

    print(what, file=sys.stderr, flush=True)
    threading.Thread(target=report, daemon=True).start()
    try:
        yield
    finally:
        done.set()
