"""Stands in for a contestant: the protocol without a network, and ways to fail, by its name."""

import json
import os
import sys
import time
from pathlib import Path

CASE = json.loads(sys.argv[1])
NAME = CASE["contestant"]


def note(event):
    with Path(os.environ["EVENTS"]).open("a") as events:
        events.write(f"{event} {NAME}\n")


def main():
    note("starts")
    if NAME == "dies":
        raise ValueError("no such device")
    if NAME == "hangs":
        time.sleep(60)
    ready = {"compile_seconds": 1.0, "device": "stand-in", "on_gpu": False}
    peak = float(os.environ["PEAK_FLOPS"]) if "PEAK_FLOPS" in os.environ else None
    print(json.dumps({**ready, "peak_flops": peak}), flush=True)
    for line in sys.stdin:
        if line == "profile\n":
            raise ValueError("no profiler")
        if NAME == "dies later":
            raise MemoryError("no memory")
        note("runs")
        answer = {"seconds": 0.5, "images": {"ours": 6, "other": 3}[NAME], "peak_bytes": 2**20}
        print(json.dumps(answer), flush=True)
    note("ends")


if __name__ == "__main__":
    main()
