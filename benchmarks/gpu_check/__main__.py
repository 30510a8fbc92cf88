"""All that is to be known of this project on a GPU, in twelve minutes, most valuable first.

    make gpu-wheels && make gpu-check       # gpu_check/check.json and check.log
    python -m benchmarks.gpu_check --minutes=6 --parts=machine,goldens,networks,kernels
    python -m benchmarks.gpu_check --small --minutes=40      # tries all of it on a CPU

Each step is a process of its own with a time limit, alone on the device: one that crashes or hangs
costs its own figures. The log and the JSON are written as figures come, so that they are whole
whenever it is ended. A second run starts from what the first one compiled.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.budget import Budget
from benchmarks.gpu_check.plan import PARTS, Network, Script, plan
from benchmarks.gpu_check.record import Record
from benchmarks.gpu_check.run import run_network, run_script
from benchmarks.gpu_check.wheels import install

_RESERVE = 5  # seconds, for the table at the end


def main() -> None:
    """Carries out the plan, and prints a table of the networks."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, _end)
    budget = Budget(arguments.minutes, _RESERVE)
    record = Record(arguments.out, budget)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        _set_environment(arguments, Path(folder), record)
        try:
            for step in plan(arguments.parts, arguments.small):
                granted = budget.grant(str(step), step.limit, least=step.least)
                if granted is None:
                    record.say(f"left out: {step}")
                else:
                    _carry_out(step, granted, record)
                if record.on_cpu and not arguments.small:
                    record.say("JAX sees no GPU here; --small tries all of it on a CPU")
                    break
        finally:
            record.finish()


def _end(*_) -> None:
    # An exception ends the child as well; a second signal would interrupt just that.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def _carry_out(step: Script | Network, seconds: float, record: Record) -> None:
    try:
        (run_script if isinstance(step, Script) else run_network)(step, seconds, record)
    except Exception:  # what was not thought of costs no more than this step, either
        record.fail(str(step), "the check itself", traceback.format_exc())


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check")
    parser.add_argument("--minutes", type=float, default=12, help="the whole takes at most")
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try it on a CPU")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder to write to")
    arguments = parser.parse_args()
    arguments.parts = arguments.parts.split(",")
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"--parts={','.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")
    return arguments


def _set_environment(arguments: argparse.Namespace, folder: Path, record: Record) -> None:
    cache = Path.cwd() / ".cache"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache / "triton"))
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if arguments.small:
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    start = time.monotonic()
    site = install(Path(".whl"), folder / "site")
    if site:
        record.say(f"wheels installed in {time.monotonic() - start:.0f} s")
    paths = [str(Path.cwd()), *([str(site)] if site else []), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


if __name__ == "__main__":
    main()
