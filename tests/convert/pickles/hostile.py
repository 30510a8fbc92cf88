"""Pickles and archives made to run something, to hang, or to fill the memory; by their names.

Run as a module with a folder, it reads each file there and prints what came of it: by then every
import, call of a command, file opened for writing and connection is counted.
"""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

PROTO = b"\x80\x02"
MARKER = "it-has-run"
COMMAND = f"touch {MARKER}"


def name(module, function):
    return f"c{module}\n{function}\n".encode()


def text(value):
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def whole(value):
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def huge(size):
    """A number of so many bytes."""
    return b"\x8b" + struct.pack("<i", size) + b"\x01" * size


def several(*values):
    return b"(" + b"".join(values) + b"t"


def call(module, function, *arguments):
    return name(module, function) + several(*arguments) + b"R"


def pickled(body, protocol=2):
    return b"\x80" + bytes([protocol]) + body + b"."


def beside_weights(body):
    """A file of an array under a name, and something else."""
    return pickled(b"}(" + text("model") + b"}" + text("x") + body + b"u")


# What is to be refused by its name, as a pickle calls it.
RUNS = {
    "os.system": call("os", "system", text(COMMAND)),
    "posix.system": call("posix", "system", text(COMMAND)),
    "nt.system": call("nt", "system", text(COMMAND)),
    "os.popen": call("os", "popen", text(COMMAND)),
    "os.execv": call("os", "execv", text("/bin/sh"), b"]"),
    "subprocess.Popen": call("subprocess", "Popen", several(text("touch"), text(MARKER))),
    "subprocess.check_output": call("subprocess", "check_output", several(text("touch"))),
    "builtins.exec": call("builtins", "exec", text(f"open({MARKER!r}, 'w')")),
    "builtins.eval": call("builtins", "eval", text(f"open({MARKER!r}, 'w')")),
    "builtins.compile": call("__builtin__", "compile", text("1"), text(""), text("exec")),
    "builtins.open": call("builtins", "open", text(MARKER), text("w")),
    "builtins.execfile": call("__builtin__", "execfile", text(MARKER)),
    "builtins.__import__": call("__builtin__", "__import__", text("antigravity")),
    "builtins.setattr": call("builtins", "setattr", name("torch", "load"), text("a"), b"N"),
    "builtins.breakpoint": call("builtins", "breakpoint"),
    "importlib.import_module": call("importlib", "import_module", text("antigravity")),
    "runpy.run_path": call("runpy", "run_path", text(MARKER)),
    "pty.spawn": call("pty", "spawn", text("/bin/sh")),
    "socket.create_connection": call("socket", "create_connection", b"]"),
    "urllib.request.urlopen": call("urllib.request", "urlopen", text("http://127.0.0.1:1")),
    "webbrowser.open": call("webbrowser", "open", text("http://127.0.0.1:1")),
    "shutil.rmtree": call("shutil", "rmtree", text(".")),
    "ctypes.CDLL": call("ctypes", "CDLL", text("libc.so.6")),
    "pickle.loads": call("pickle", "loads", text("")),
    "timeit.timeit": call("timeit", "timeit", text("1")),
    "sys.modules": name("sys", "modules"),
    "os.path.join": name("os", "path.join"),  # no path of a file needs it
}
# The same by other commands.
SYSTEM = name("os", "system")
OTHER_COMMANDS = {
    "on the stack": text("os") + text("system") + b"\x93" + several(text(COMMAND)) + b"R",
    "INST": b"(" + text(COMMAND) + b"ios\nsystem\n",
    "OBJ": b"(" + SYSTEM + text(COMMAND) + b"o",
    "NEWOBJ": SYSTEM + several(text(COMMAND)) + b"\x81",
    "NEWOBJ_EX": SYSTEM + several(text(COMMAND)) + b"}\x92",
    "BUILD": SYSTEM + b"}b",
    "remembered": SYSTEM + b"q\x000h\x00" + several(text(COMMAND)) + b"R",
    "eval by NEWOBJ": name("builtins", "eval") + several(text("1")) + b"\x81",
    "eval by INST": b"(" + text("1") + b"i__builtin__\neval\n",
    "eval of more than data": call("builtins", "eval", text("data"), b"}" + text("x") + b"Ns"),
    "eval of data, with globals": call("builtins", "eval", text("data"), b"}", b"}"),
}
# What names nothing known for running code: made into inert records, or refused.
INERT = {
    "getattr": call("builtins", "getattr", name("torch", "hub"), text("load")),
    "getattr's result is called": b"("
    + call("builtins", "getattr", name("torch", "hub"), text("load"))
    + b"0"
    + call("builtins", "getattr", name("torch", "hub"), text("load"))
    + several(text("x"))
    + b"R0N0N",
    "partial of eval": call("functools", "partial", name("builtins", "eval"), text("1")),
    "map": call("builtins", "map", name("builtins", "print"), several(text("1"))),
    "attrgetter": call("operator", "attrgetter", text("system")),
    "methodcaller": call("operator", "methodcaller", text("touch")),
    "touch": call("pathlib", "Path.touch", call("pathlib", "PosixPath", text(MARKER))),
    "numpy.load": call("numpy", "load", text(MARKER)),
    "numpy's runstring": call("numpy.testing._private.utils", "runstring", text("1"), b"}"),
    "torch.load": call("torch", "load", text(MARKER)),
    "torch.hub": call("torch.hub", "load", text("a/b"), text("c")),
    "bytes of a storage": call("torch.storage", "_load_from_bytes", b"C\x00"),
    "a codec": call("_codecs", "encode", text("a"), text("idna")),
    "a decoder": call("_codecs", "decode", b"C\x01a", text("zip")),
    "state of a class": name("torch.nn", "Module") + b"}" + text("__reduce__") + b"Nsb",
    "state of a tuple": b")}b",
    "__setstate__": call("builtins", "object") + text("state") + b"b",
    "extension 1": b"\x82\x01",
    "extension 2": b"\x83\x01\x00",
    "extension 4": b"\x84\x01\x00\x00\x00",
    "persistent text": b"Pos.system\n",
    "persistent tuple": several(text("storage"), SYSTEM[:0] + name("torch", "X"), b"N") + b"Q",
    "pops nothing": b"0",
    "doubles nothing": b"2",
    "a name with a NUL": b"cos\x00\nsystem\n)R",
    "remembers far": b"Nr\xff\xff\xff\xff",
    "buffer": b"\x97",
    "read-only buffer": b"N\x98",
    "reconstructor": call("copyreg", "_reconstructor", name("a", "B"), b"N", b"N"),
    "reconstructor of itself": call("copyreg", "__newobj__", name("copyreg", "__newobj__"), b")"),
    "append to a class": name("a", "B") + b"Na",
    "append to a record": call("a", "B") + b"Na",
    "set an item of a class": name("a", "B") + b"NNs",
    "set an item of a record": call("a", "B") + b"NNs",
    "add to a tuple": b")(N\x90",
    "call a text": text("os") + b")R",
    "call with a list": name("a", "B") + b"]R",
    "name without a name": b"NN\x93",
}
BROKEN = {
    "recalls nothing": b"h\x07",
    "remembers nothing": b"q\x00",
    "pops to no mark": b"1",
    "closes nothing": b"t",
    "odd items": b"}(Nu",
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 1 << 62),
    "negative bytes": b"\x8b\xff\xff\xff\xff",
    "a number that is not there": b"\x8b\xff\xff\xff\x7f",
    "a text that is not there": b"X\xff\xff\xff\x7f",
    "a byte array that is not there": b"\x96" + struct.pack("<Q", 1 << 40),
    "a frame that lies": b"\x95" + struct.pack("<Q", 1 << 60) + b"N",
    "protocol 255": b"\x80\xff",
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n",
    "no text": b"X\x01\x00\x00\x00\xff",
    "no command": b"\xfe",
    "escapes": b"S'\\q\\N{BELL}'\n",
    "list as a key": b"}]Ns",
    "dict as a key": b"}}Ns",
    "an object of no class": b"(o",
    "a name of many letters": name("os", "y" * 100_000),
}


def nested(opening, closing, depth):
    return opening * depth + b"N" + closing * depth


def of_steps(*steps):
    """What the last step remembers as 0; what they leave on the stack is dropped."""
    return b"(" + b"".join(steps) + b"1h\x00"


def laughing(container, add, depth=200):
    """Containers that each hold the one before twice: 2 ** depth of them, to who follows each."""
    return of_steps(container + b"q\x00", *[container + add + b"q\x00"] * depth)


def module(modules):
    """A whole module whose modules are these."""
    state = b"}(" + text("_parameters") + b"}" + text("_buffers") + b"}"
    return call("a", "Module") + state + text("_modules") + modules + b"ub"


def state(**parts):
    return b"}(" + b"".join(text(of) + part for of, part in parts.items()) + b"u"


def numbered(count):
    """A dict of many keys."""
    return b"}(" + b"".join(whole(number) + b"N" for number in range(count)) + b"u"


def several_of(count, shared, each):
    """A list of what `each` makes, so many times, of what is remembered as 0."""
    return b"(" + shared + b"q\x001](" + each * count + b"e"


LONG = b"\x8b" + struct.pack("<I", 3000) + b"\x7f" * 3000
ARRAY = call(
    "numpy._core.multiarray", "_reconstruct", name("numpy", "ndarray"), b"K\x00\x85", b"C\x01b"
)


def array(shape, dtype=b"", content=b"C\x08abcdefgh", fortran=b"\x89"):
    dtype = dtype or call("numpy", "dtype", text("f4"))
    return ARRAY + several(b"K\x01", shape, dtype, fortran, content) + b"b"


# The tensor that tells a Shunted Transformer, and nothing more of one.
NAME = "patch_embed1.conv.0.weight"
ONE = array(b"K\x02\x85")
LANDMARK = b"}" + text(NAME) + ONE + b"s"


def large(share):
    """What takes long or much to whoever follows it; all of it, or a share."""

    def times(count):
        return int(count * share)

    return {
        "lists in lists": nested(b"]", b"a", times(100_000)),
        "tuples in tuples": nested(b"", b"\x85", times(50_000)),
        "dicts in dicts": nested(b"}" + text("a"), b"s", times(50_000)),
        "records in records": name("a", "B") + b")R" * times(100_000),
        "records of states": name("a", "B")
        + b")R"
        + (b"0" + name("a", "B") + b")R}b") * times(50_000),
        "tuples of tuples as a key": b"}" + b")" + b"\x852\x86" * 40 + b"Ns",
        "keys that collide": b"}("
        + b"".join(whole(number * ((1 << 61) - 1)) + b"N" for number in range(times(40_000)))
        + b"u",
        "a list of itself": b"]q\x00h\x00a",
        "a dict of itself": b"}q\x00" + text("a") + b"h\x00s",
        "a record of itself": call("a", "B") + b"q\x00}" + text("a") + b"h\x00sb",
        "a module of itself": call("a", "Module")
        + b"q\x00}("
        + text("_parameters")
        + b"}"
        + text("_modules")
        + b"}"
        + text("a")
        + b"h\x00sub",
        "laughing dicts": laughing(b"}", b"(" + text("a") + b"h\x00" + text("b") + b"h\x00u"),
        "laughing lists": laughing(b"]", b"(h\x00h\x00e"),
        "laughing tuples": of_steps(b")q\x00", b"h\x00h\x00\x86q\x00" * 200),
        "laughing modules": of_steps(
            module(b"}") + b"q\x00",
            *[module(b"}(" + text("a") + b"h\x00" + text("b") + b"h\x00u") + b"q\x00"] * 60,
        ),
        "sets without end": b"\x8f\x94" * times(2_000_000),
        "a text encoded again and again": name("_codecs", "encode")
        + b"q\x00("
        + text("x" * 4000)
        + text("latin1")
        + b"tq\x010"
        + b"h\x00h\x01R0" * times(100_000),
        "a list copied again and again": b"]("
        + b"N" * times(100_000)
        + b"e\x85q\x01"
        + name("builtins", "tuple")
        + b"q\x00"
        + b"h\x00h\x01R" * times(200_000),
        "a dict copied again and again": b"}("
        + b"".join(whole(n) + b"N" for n in range(times(50_000)))
        + b"u\x85q\x01"
        + name("collections", "OrderedDict")
        + b"q\x00"
        + b"h\x00h\x01R" * times(200_000),
        "records of one state": several_of(
            times(100_000), numbered(times(100_000)), call("a", "B") + b"h\x00b"
        ),
        "states of states": call("a", "B") * times(100_000) + b"b" * (times(100_000) - 1),
        "modules of one": several_of(
            times(100_000),
            state(_parameters=numbered(times(100_000)), _modules=b"}"),
            call("a", "Module") + b"h\x00b",
        ),
        "modules in modules": (
            (call("a", "Module") + b"}(" + text("_parameters") + b"}" + text("_modules") + b"}")
            + text("m" * 250)
        )
        * times(100_000)
        + b"N"
        + b"sub" * times(100_000),
        "a module that hides a number": call("a", "Module")
        + state(
            _parameters=b"}",
            _buffers=b"}" + text("a") + array(b"K\x02\x85") + b"s",
            _modules=b"}",
            _non_persistent_buffers_set=b"K\x01",
        )
        + b"b",
        "a module that hides much": b"("
        + array(b"K\x02\x85")
        + b"q\x001"
        + call("a", "Module")
        + state(
            _parameters=b"}",
            _buffers=b"}("
            + b"".join(text(str(n)) + b"h\x00" for n in range(times(100_000)))
            + b"u",
            _modules=b"}",
            _non_persistent_buffers_set=b"](" + b"N" * times(100_000) + b"e",
        )
        + b"b",
        "state dicts in state dicts": b"("
        + array(b"K\x02\x85")
        + b"q\x001"
        + (b"}(" + text("t") + b"h\x00" + text("n")) * times(100_000)
        + b"N"
        + b"u" * times(100_000),
        "many state dicts": several_of(
            times(100_000),
            array(b"K\x02\x85"),
            b"}" + text("patch_embed1.conv.0.weight") + b"h\x00s",
        ),
        "many stages": b"("
        + array(b"K\x02\x85")
        + b"q\x001}("
        + b"".join(text(f"block{n}.0.x") + b"h\x00" for n in range(1, times(100_000)))
        + text("patch_embed1.conv.0.weight")
        + b"h\x00u",
        "a long name, shared": several_of(
            times(100_000),
            array(b"K\x02\x85") + b"q\x020V" + b"patch_embed1." * 10_000 + b"\n",
            b"}h\x00h\x02s",
        ),
        "an array of a size of 3,000 bytes": array(LONG + b"\x85"),
        "pieces of a shape without end": b"}"
        + text("UnpackBigParamInfor@@")
        + b"}"
        + text("w")
        + state(OriginShape=b"(" + whole(1 << 1000) * times(100_000) + b"t", slices=b"]")
        + b"ss"
        + text("a")
        + array(b"K\x02\x85")
        + b"s",
        "an array of a terabyte": array(whole(1 << 40) + b"\x85"),
        "an array of no size": array(b"K\x00\x85", content=b"C\x00"),
        "an array of a negative size": array(whole(-2) + b"\x85"),
        "an array of 65 axes": array(several(*[b"K\x01"] * 65)),
        "an array of shapes": array(text("f4")),
        "an array of a size that cannot be written": array(huge(2000) + b"\x85"),
        "an array of sizes that are slow to multiply": array(
            b"(" + huge(400_000) + b"2" * 50 + b"t"
        ),
        "a tensor of a class of tuples": call(
            "torch._tensor",
            "_rebuild_from_type_v2",
            name("torch._utils", "_rebuild_tensor_v2"),
            of_steps(b")q\x00", b"h\x00h\x00\x86q\x00" * 28),
            b")",
            b"N",
        ),
        "a text of escapes": b"S'" + b"\\x41" * 2_000_000 + b"'\n",
        "a long name": name("a" * 1_000_000, "B") + b")R",
        "a name that clears the terminal": name("os.\x1b[2J", "a\x07"),
        "an array of objects": array(b"K\x02\x85", call("numpy", "dtype", text("O8")), b"](NNe"),
        "an array of structures": array(
            b"K\x02\x85", call("numpy", "dtype", text("f4,(1000000000,)f4"))
        ),
        "an array of nothing": array(b"K\x02\x85", call("numpy", "dtype", text("V1000000000000"))),
        "an array of itself": ARRAY
        + b"q\x00"
        + several(b"K\x01", b")", b"h\x00", b"\x89", b"h\x00")
        + b"b",
        "an array from a buffer": call(
            "numpy._core.numeric",
            "_frombuffer",
            b"C\x01a",
            call("numpy", "dtype", text("f8")),
            whole(1 << 50) + b"\x85",
            text("C"),
        ),
        "a scalar of objects": call(
            "numpy._core.multiarray", "scalar", call("numpy", "dtype", text("O")), name("os_", "x")
        ),
        "a type with parts": call("numpy", "dtype", text("f4"))
        + several(b"K\x03", text("<"), b"N", b"N", b"N", whole(-1), whole(-1), whole(27))
        + b"b",
        "a type in a bad order": call("numpy", "dtype", text("f4"))
        + several(b"K\x03", text("os"), b"N")
        + b"b",
    }


def storage(key="0", kind="FloatStorage", count=4, module="torch"):
    return several(text("storage"), name(module, kind), text(key), text("cpu"), whole(count)) + b"Q"


REBUILD = ("torch._utils", "_rebuild_tensor_v2")


def tensor(of, offset=0, shape=(4,), strides=(1,)):
    shape, strides = (several(*map(whole, sizes)) for sizes in (shape, strides))
    hooks = call("collections", "OrderedDict")
    return call(*REBUILD, of, whole(offset), shape, strides, b"\x89", hooks)


def archive(body, members=None, **how):
    """An archive of PyTorch's with a pickle of a state dict, and a storage of four floats."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **how) as file:
        file.writestr("a/data.pkl", pickled(b"}" + text("w") + body + b"s"))
        file.writestr("a/byteorder", "little")
        for member, content in (members or {"a/data/0": bytes(16)}).items():
            file.writestr(member, content)
    return stream.getvalue()


def with_end_changed(content, at, value):
    """An archive of which the last member's entry says something else."""
    entry = content.rindex(b"PK\x01\x02")
    return content[: entry + at] + value + content[entry + at + len(value) :]


def shaped(shape):
    return call(
        "torch._utils", "_rebuild_tensor_v2", storage(), b"K\x00", shape, b")", b"\x89", b"}"
    )


# What is no shape and no storage's name: to be shown in a message, and without end.
DEEP = b")" + b"\x85" * 50_000
LAUGHING = of_steps(b")q\x00", b"h\x00h\x00\x86q\x00" * 200)
SOUND = archive(tensor(storage()))
ARCHIVES = {
    "a storage that is longer than its member": archive(tensor(storage(count=5))),
    "a storage of a terabyte": archive(tensor(storage(count=1 << 40), shape=(1 << 40,))),
    "a storage of a negative size": archive(tensor(storage(count=-4))),
    "a storage that is not there": archive(tensor(storage("1"))),
    "a storage elsewhere": archive(tensor(storage("../../../etc/passwd"))),
    "a storage with a NUL": archive(tensor(storage("0\x00"))),
    "a storage of a function": archive(tensor(storage(kind="system", module="posix_"))),
    "a storage of os.system": archive(tensor(storage(kind="system", module="os"))),
    "a tensor beyond its storage": archive(tensor(storage(), offset=1)),
    "a tensor before its storage": archive(tensor(storage(), offset=-1)),
    "a tensor of a negative stride": archive(tensor(storage(), strides=(-1,))),
    "a tensor of a huge stride": archive(tensor(storage(), shape=(2,), strides=(1 << 61,))),
    "a tensor of stride 0": archive(tensor(storage(), shape=(1 << 40,), strides=(0,))),
    "a tensor of more axes than strides": archive(tensor(storage(), shape=(2, 2))),
    "a tensor of 65 axes": archive(tensor(storage(), shape=(1,) * 65, strides=(1,) * 65)),
    "a storage of lists in lists": archive(nested(b"]", b"a", 10_000) + b"Q"),
    "a storage that is a huge number": archive(huge(2000) + b"Q"),
    "a tensor of a huge size": archive(
        call(*REBUILD, storage(), b"K\x00", huge(2000) + b"\x85", b"K\x01\x85", b"\x89", b"}")
    ),
    "a tensor of a text": archive(tensor(text("0"))),
    "a storage of tuples in tuples": archive(DEEP + b"Q"),
    "a storage of laughing tuples": archive(LAUGHING + b"Q"),
    "a shape of tuples in tuples": archive(shaped(DEEP + b"\x85")),
    "a shape of laughing tuples": archive(shaped(LAUGHING + b"\x85")),
    "many tensors of one storage": archive(
        b"}("
        + b"".join(
            text(str(n)) + tensor(storage(count=1 << 21), shape=(1 << 21,)) for n in range(500)
        )
        + b"u",
        {"a/data/0": bytes(1 << 23)},
    ),
    "a member squeezed": archive(
        tensor(storage(count=1 << 26), shape=(1 << 26,)),
        {"a/data/0": bytes(1 << 28)},
        compression=zipfile.ZIP_DEFLATED,
    ),
    "members with NULs": archive(tensor(storage()), {"a/data/0\x00x": bytes(16)}),
    "a member twice as long as it is": with_end_changed(
        SOUND, 20, struct.pack("<II", 1 << 30, 1 << 30)
    ),
    "a member far away": with_end_changed(SOUND, 42, struct.pack("<I", 1 << 30)),
    "a member over another": with_end_changed(SOUND, 42, struct.pack("<I", 0)),
    "a member with half a password": with_end_changed(SOUND, 8, b"\x01\x00"),
    "a member with a password": SOUND.replace(
        b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01"
    ).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    "a checksum that is wrong": with_end_changed(SOUND, 16, b"\x00\x00\x00\x00"),
}


def files(share):
    """All of them, by their names."""
    return {
        **{f"runs {of}": beside_weights(body) for of, body in RUNS.items()},
        **{f"commands: {of}": beside_weights(body) for of, body in OTHER_COMMANDS.items()},
        **{f"inert: {of}": beside_weights(body) for of, body in INERT.items()},
        **{f"broken: {of}": beside_weights(body) for of, body in BROKEN.items()},
        **{f"large: {of}": beside_weights(body) for of, body in large(share).items()},
        **{f"archive: {of}": content for of, content in ARCHIVES.items()},
        "alone: names without end": pickled(
            b"}(" + b"".join(text(f"\x1b]0;{n}\x07\n" * 200) + b"N" for n in range(9)) + b"u"
        ),
        "alone: state dicts without end": pickled(
            b"}(" + b"".join(text(f"k{n}") + LANDMARK for n in range(2000)) + b"u"
        ),
        "alone: networks without end": pickled(
            b"}(" + b"".join(text(f"k{n}.{NAME}") + ONE for n in range(2000)) + b"u"
        ),
        "alone: pieces of a size that is slow to multiply": pickled(
            b"}("
            + text(NAME)
            + ONE
            + text("x@@.0")
            + ONE
            + text("UnpackBigParamInfor@@")
            + b"}"
            + text("x")
            + b"}("
            + text("OriginShape")
            + b"("
            + huge(255)
            + b"q\x07"
            + b"h\x07" * 60_000
            + b"t"
            + text("slices")
            + text("x@@.0")
            + b"\x85usu"
        ),
        "broken: no end": PROTO + b"N",
        "broken: nothing to end with": PROTO + b".",
        "runs os.system in an archive": archive(RUNS["os.system"]),
    }


def read(path):
    """Reads a file and every tensor in it; returns what is said of it, or how many it has."""
    import numpy as np

    from shunted_jax.convert.files import read_file, reading
    from shunted_jax.convert.finding import find_state_dict
    from shunted_jax.convert.pickles import Stored
    from shunted_jax.convert.state_dict import convert_state_dict
    from shunted_jax.errors import UserError

    try:
        with reading(path):
            loaded = read_file(path).value
            tensors = find_state_dict(loaded).tensors
            for tensor in tensors.values():
                if isinstance(tensor, Stored):
                    np.asarray(tensor)
            convert_state_dict(loaded)
    except UserError as error:
        return str(error)
    return "converted"


def main(folder, share):
    import resource
    import time

    from shunted_jax.convert.pickles import machine

    machine._MOST_COMMANDS = int(machine._MOST_COMMANDS * share)

    paths = sorted(Path(folder).glob("*.pth"))
    for content in (
        beside_weights(RUNS["os.system"]),
        SOUND,
    ):  # what this program itself imports late
        (Path(folder) / "first").write_bytes(content)
        read(Path(folder) / "first")
    (Path(folder) / "first").unlink()
    seen = []

    def watch(event, arguments):
        if event == "open" and not set(str(arguments[1])) & set("wax+"):
            return
        if event not in ("mmap.__new__", "builtins.id"):
            seen.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(watch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = {}
    for path in paths:
        seen.clear()
        start = time.process_time()
        said = read(path)
        results[path.stem] = {
            "said": said,
            "seconds": time.process_time() - start,
            "events": list(seen),
            "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
