"""Strangers' files by coverage-guided fuzzing: a result or a clear message, and nothing else.

`make fuzz` runs it for ten minutes: five on pickles, which stand in an archive whose checksums are
right, and five on whole files. It needs atheris: the extra `fuzz`. What it finds is kept in a
folder, a file a fault, and belongs among the cases of `pickles/hostile.py`.

An input's first byte says what the rest is: see `write`.
"""

import argparse
import contextlib
import hashlib
import io
import pickle
import pickletools
import random
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

try:
    import atheris
except ImportError:  # the tests change some inputs without it
    atheris = None

with atheris.instrument_imports(include=["shunted_jax"]) if atheris else contextlib.nullcontext():
    from shunted_jax.convert import files, state_dict
    from shunted_jax.convert.pickles import Stored
    from shunted_jax.hub import weight_files

import numpy as np

from shunted_jax.errors import UserError
from tests.convert import test_mutations
from tests.convert.files import SMALLEST, small_weights, to_torch_tensors
from tests.convert.pickles import hostile

# One byte before each input: a file, an index of files, or the pickle of one of these archives.
FILE, INDEX, FIRST_ARCHIVE = 0, 1, 2
ARCHIVES = ("zip", "module", "script")
NARROW = {"embed_dims": (32,), "num_heads": (1,), "sr_ratios": (1,), "in_channels": 1}
SHARD = "model-00001-of-00001.safetensors"
HARMLESS = ("mmap.__new__", "builtins.id", "sys._getframe", "object.__getattr__", "gc.", "time.")
MOST_SECONDS, MOST_MEGABYTES, MOST_SAID = 5, 1000, 5000


def sound_files(folder):
    """Returns files of one network, by their kinds."""
    fields = {**SMALLEST, **NARROW}
    tensors = to_torch_tensors(small_weights(**fields))
    made = test_mutations.whole_networks(fields)
    for kind in test_mutations.KINDS:
        if kind not in made:
            test_mutations.write(tensors, folder / "w", kind)
            made[kind] = (folder / "w").read_bytes()
    return made


def pickle_of(archive):
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith("/data.pkl"))
        return opened.read(name)


def with_pickle(archive, content):
    """Returns an archive with another pickle, and checksums that are right."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            if name.endswith(("/data.pkl", "/byteorder", "/constants.pkl")) or "/data/" in name:
                new.writestr(name, content if name.endswith("/data.pkl") else old.read(name))
    return made.getvalue()


def seeds(made, target):
    """Yields the inputs to begin with."""
    if target == "pickle":
        for number, kind in enumerate(ARCHIVES):
            yield bytes([FIRST_ARCHIVE + number]) + pickle_of(made[kind])
        for kind in ("pickle", "paddle"):
            yield bytes([FILE]) + made[kind]
        arrays = {"a": np.zeros((2, 3), np.float32), "b": np.float64(1)}
        for protocol in range(6):
            yield bytes([FILE]) + pickle.dumps(arrays, protocol)
        for content in hostile.files(0.0001).values():
            if content[:2] != b"PK" and len(content) < 4096:
                yield bytes([FILE]) + content
                yield bytes([FIRST_ARCHIVE]) + content
        return
    for content in made.values():
        yield bytes([FILE]) + content
    for of, content in hostile.ARCHIVES.items():
        if len(content) < 4096 and of != "a member squeezed":
            yield bytes([FILE]) + content
    names = ", ".join(f'"{name}": "{SHARD}"' for name in small_weights(**SMALLEST, in_channels=1))
    yield (
        bytes([INDEX]) + f'{{"metadata": {{"total_size": 1}}, "weight_map": {{{names}}}}}'.encode()
    )


class Fuzzed:
    """What is done with each input, and what came of all of them."""

    def __init__(self, made, folder, finds):
        self.made, self.folder, self.finds = made, folder, finds
        self.runs = self.converted = 0
        self.found, self.events, self.watching = set(), [], False
        (folder / SHARD).write_bytes(made["safetensors"])

    def write(self, content):
        """Writes an input as the file that it stands for, and returns the file."""
        form, rest = content[0], content[1:]
        if form == INDEX:
            path = self.folder / "model.safetensors.index.json"
        else:
            path = self.folder / "w.pth"
            if form >= FIRST_ARCHIVE:
                kind = ARCHIVES[(form - FIRST_ARCHIVE) % len(ARCHIVES)]
                rest = with_pickle(self.made[kind], rest)
        path.write_bytes(rest)
        return path

    def read(self, path):
        """Returns what is said of a file; nothing where it is converted."""
        try:
            with files.reading(path):
                read = weight_files.read_weight_files if path.suffix == ".json" else None
                loaded = read(path)[0].value if read else files.read_file(path).value
                for tensor in loaded.values() if isinstance(loaded, dict) else ():
                    if isinstance(tensor, Stored):
                        np.asarray(tensor)
                state_dict.convert_state_dict(loaded)
        except UserError as error:
            return str(error)
        self.converted += 1
        return ""

    def watch(self, event, arguments):
        if not self.watching or event.startswith(HARMLESS):
            return
        if event == "open" and not set(str(arguments[1])) & set("wax+"):
            return
        self.events.append(f"{event} {arguments!r:.200}")

    def __call__(self, content):
        """Reads an input, and keeps it where that did not go as it should."""
        if not content:
            return
        path = self.write(content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        fault = None
        self.runs += 1
        self.events.clear()
        self.watching = True
        try:
            said = self.read(path)
        except BaseException as error:  # a panic of safetensors' is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            said, frames = "", traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if "shunted_jax" in frame.filename] or frames
            fault = f"{type(error).__name__}: {Path(own[-1].filename).name}:{own[-1].lineno}"
            shown = f"{error!s:.300}"
        finally:
            self.watching = False
        seconds = time.process_time() - start
        megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if self.events:
            fault, shown = f"does {self.events[0]}", said
        elif fault is None:
            shown = ""
            if seconds > MOST_SECONDS:
                fault, shown = "takes long", f"{seconds:.1f} s"
            elif megabytes > MOST_MEGABYTES:
                fault, shown = "takes memory", f"{megabytes:,.0f} MB"
            elif len(said) > MOST_SAID:
                fault, shown = f"says much: {''.join(filter(str.isalpha, said))[40:70]}", said[:300]
        if fault and fault not in self.found:
            self.found.add(fault)
            kept = self.finds / hashlib.sha256(content).hexdigest()[:8]
            kept.write_bytes(content)
            kept.with_suffix(".txt").write_text(f"{fault}\n{shown}\n", errors="replace")
            print(f"FOUND {kept}: {fault}: {shown}", flush=True)


def commands_of(content):
    """Returns a pickle's commands, each the bytes of one, and the rest as it is."""
    places = []
    try:
        for _, _, at in pickletools.genops(content):
            places.append(at)
    except Exception:  # it is broken from here on
        pass
    return [
        content[a:b] for a, b in zip([0, *places[1:]], [*places[1:], len(content)], strict=True)
    ]


def pool_of(inputs):
    """Returns the commands of all pickles, one after the other."""
    return [command for content in inputs for command in commands_of(content[1:])]


def mutator(pool, mutate_bytes):
    """Returns what changes a pickle by whole commands, every other time, and else by its bytes."""

    def mutate(content, most, seed):
        rng = random.Random(seed)
        if len(content) < 3 or rng.random() < 0.4:
            return mutate_bytes(content, most)
        commands = commands_of(content[1:])
        for _ in range(rng.choice([1, 1, 2, 5])):
            at, other = rng.randrange(len(commands)), rng.randrange(len(commands))
            change = rng.randrange(6)
            if change == 0 and len(commands) > 1:
                del commands[at]
            elif change == 1:
                commands.insert(at, commands[other])
            elif change == 2:
                commands[at], commands[other] = commands[other], commands[at]
            elif change == 3:
                commands[at] = mutate_bytes(commands[at], max(len(commands[at]), 2)) or b"N"
            elif change == 4:
                commands[at:at] = rng.sample(pool, rng.choice([1, 1, 3]))
            else:
                first = rng.randrange(len(pool))
                commands[at : at + rng.randrange(4)] = pool[first : first + rng.randrange(1, 30)]
        first = rng.randrange(FIRST_ARCHIVE + len(ARCHIVES)) if rng.random() < 0.05 else content[0]
        return (bytes([first]) + b"".join(commands))[:most]

    return mutate


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=["pickle", "container"])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path(".cache/fuzz"))
    given = parser.parse_args()
    corpus, finds = given.folder / given.target, given.folder / f"{given.target}-finds"
    for folder in (corpus, finds):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        made = sound_files(Path(work))
        begin = list(seeds(made, given.target))
        for number, content in enumerate(begin):
            (corpus / f"seed-{number:03}").write_bytes(content)
        fuzzed = Fuzzed(made, Path(work), finds)
        for content in begin:  # what this program itself imports late
            fuzzed.read(fuzzed.write(content))
        print(f"{len(begin)} seeds, {fuzzed.converted} of which are converted", flush=True)
        sys.addaudithook(fuzzed.watch)
        flags = [f"-max_total_time={given.seconds}", "-timeout=60", "-rss_limit_mb=8000"]
        flags += ["-max_len=131072", "-print_final_stats=1", str(corpus)]
        own = {}
        if given.target == "pickle":
            own["custom_mutator"] = mutator(pool_of(begin), atheris.Mutate)
        atheris.Setup([sys.argv[0], *flags], fuzzed, **own)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
