"""Checkpoints as training programs leave them: what is taken, and what is left unread."""

import collections
import datetime
import enum
import pathlib
import pickle
import random
import sys
import types

import numpy as np
import pytest

from shunted_jax.models.architecture import network_of
from shunted_jax.pretrained import variables_of
from tests.convert.files import SMALLEST, assert_same, convert, save, small_weights, torch
from tests.convert.files import to_torch_tensors as tensors_of

BOTH = pytest.mark.parametrize("kind", ["zip", "legacy"])


@pytest.fixture(scope="module")
def weights():
    return small_weights(**SMALLEST)


class Told:
    """Saves, converts, and has the account's rows, what is said, and what would be written."""

    def __init__(self, path, capsys):
        self.path, self.capsys = path, capsys

    def __call__(self, saved, *options, kind="zip", **how):
        if isinstance(saved, bytes):
            self.path.write_bytes(saved)
        else:
            torch.save(saved, self.path, _use_new_zipfile_serialization=kind == "zip", **how)
        convert(self.path, self.path.parent / "out", *options)
        said = self.capsys.readouterr()
        assert said.err == ""
        rows = {line[2:14].strip(): line[14:] for line in said.out.splitlines() if line[:2] == "  "}
        return rows, said.out

    def written(self, path, weights, overwrite):
        self.weights = weights

    def holds(self, weights, **fields):
        model = network_of(self.weights.meta.model, self.path)
        assert_same(model, variables_of(self.weights, self.path), weights, **fields)


@pytest.fixture
def told(tmp_path, capsys, monkeypatch):
    told = Told(tmp_path / "w.pth", capsys)
    monkeypatch.setattr("shunted_jax.commands.convert.write_weights", told.written)
    return told


@pytest.fixture
def stand_in(monkeypatch):
    """Returns a function that makes a class of another package, which is not installed here."""

    def make(module, name, *bases, **members):
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            package = ".".join(parts[:end])
            if package not in sys.modules:
                monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        made = type(name, bases, {"__module__": module, **members})
        monkeypatch.setattr(sys.modules[module], name, made, raising=False)
        return made

    return make


def filled(made, **attributes):
    thing = made.__new__(made)
    thing.__dict__.update(attributes)
    return thing


@BOTH
def test_mmengine(kind, weights, told, stand_in):
    history = stand_in("mmengine.logging.history_buffer", "HistoryBuffer", min=None, max=None)
    history.min, history.max = classmethod(len), classmethod(len)
    history.__reduce__ = lambda self: (history, (), self.__dict__)

    class Method:  # a bound method, which a pickle gets by getattr
        def __reduce__(self):
            return getattr, (history, "min")

    buffer = filled(
        history,
        max_length=1_000_000,
        _log_history=np.arange(3.0),
        _count_history=np.arange(3),
        statistics_methods={"min": Method()},
    )
    saved = {
        "meta": {"epoch": 1, "seed": np.int64(3), "cfg": "model = dict()\n" * 200},
        "state_dict": {f"backbone.{n}": t for n, t in tensors_of(weights).items()},
        "message_hub": {
            "log_scalars": {"train/lr": buffer},
            "runtime_info": {"best": np.float64(1)},
        },
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]},
    }
    rows, _ = told(saved, kind=kind)
    assert rows["left unread"] == "mmengine.logging.history_buffer.HistoryBuffer"
    assert (rows["unwrapped"], rows["stripped"]) == ("state_dict", "backbone.")
    assert rows["file"].startswith("a file of torch.save")
    told.holds(weights)


@BOTH
def test_lightning(kind, weights, told, stand_in):
    config = stand_in("omegaconf.dictconfig", "DictConfig")
    node = stand_in("omegaconf.nodes", "AnyNode")
    callback = stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    mine = stand_in("my_project.settings", "Settings")
    saved = {
        "epoch": 1,
        "pytorch-lightning_version": "1.4.9",
        "state_dict": collections.OrderedDict(
            (f"model.{n}", t) for n, t in tensors_of(weights).items()
        ),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {callback: {"best_model_score": torch.ones(()), "dirpath": "runs"}},
        "optimizer_states": [{"state": {0: {"step": torch.ones(())}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "cfg": filled(config, _content={"depths": filled(node, _val=3)}, _parent=None),
            "root": pathlib.PurePosixPath("/data"),
            "settings": filled(mine, width=64),
        },
    }
    rows, _ = told(saved, kind=kind)
    unread = rows["left unread"].split(", ")
    assert unread[0] == "omegaconf.dictconfig.DictConfig"
    assert unread[1].endswith("PurePosixPath")
    assert unread[2:] == ["my_project.settings.Settings"]
    assert (rows["unwrapped"], rows["stripped"]) == ("state_dict", "model.")
    told.holds(weights)


class Colour(enum.Enum):
    RED = 1


class Config(dict):
    pass


@BOTH
def test_what_stands_beside_the_weights_does_not_matter(kind, weights, told):
    import argparse

    nested = Config(model=Config(depths=[1]))
    nested.__dict__["_frozen"] = True
    saved = {
        "arch": "shunted_t",
        "state_dict": tensors_of(weights),
        "best_acc1": np.float64(81.5),
        "curve": np.arange(3.0),
        "names": np.array(["a", None], object),
        "rng": {
            "numpy": np.random.RandomState(0).get_state(),
            "generator": np.random.default_rng(0),
            "python": random.Random(0).getstate(),
            "torch": torch.get_rng_state(),
        },
        "when": datetime.datetime(2024, 1, 1),
        "meters": collections.defaultdict(list, loss=[1.0]),
        "counts": collections.Counter("aab"),
        "cfg": nested,
        "done": {1, 2},
        "colour": Colour.RED,
        "args": argparse.Namespace(out=pathlib.PurePosixPath("runs"), lr=1e-3),
        "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    rows, _ = told(saved, kind=kind)
    for name in ("datetime.datetime", f"{__name__}.Colour", f"{__name__}.Config", "torch.device"):
        assert name in rows["left unread"]
    assert "argparse.Namespace" in rows["left unread"]
    told.holds(weights)


@pytest.fixture(scope="module")
def network(weights):
    from shunted_jax.convert.torch_reference import TorchShunted

    network = TorchShunted(**{**SMALLEST, "in_channels": 3})
    network.load_state_dict(tensors_of(weights))
    return network.eval()


@BOTH
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_module(kind, weights, network, told):
    rows, _ = told(network, kind=kind)
    assert "left unread" not in rows
    told.holds(weights)
    rows, _ = told({"epoch": 3, "model": torch.nn.DataParallel(network)}, kind=kind)
    assert (rows["unwrapped"], rows["stripped"]) == ("model", "module.")
    told.holds(weights)


def test_buffers_that_are_not_saved_are_not_taken_from_a_whole_module(weights, network, told):
    network.register_buffer("grid", torch.ones(3), persistent=False)
    try:
        told(network)
    finally:
        del network.grid


@pytest.mark.filterwarnings("ignore")
def test_torchscript(weights, network, told):
    import io

    stream = io.BytesIO()
    traced = torch.jit.trace(network, torch.zeros(1, 3, 32, 32), check_trace=False)
    torch.jit.save(traced, stream)
    rows, _ = told(stream.getvalue())
    assert rows["file"] == "a TorchScript archive"
    told.holds(weights)


@BOTH
@pytest.mark.parametrize("protocol", [4, 5])
def test_newer_protocols(kind, protocol, weights, told):
    told(tensors_of(weights), kind=kind, pickle_protocol=protocol)
    told.holds(weights)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_detectron2(protocol, weights, told):
    saved = {"model": weights, "__author__": "OliverRensu", "matching_heuristics": True}
    rows, _ = told(pickle.dumps(saved, protocol))
    assert rows["file"] == "a pickle"
    told.holds(weights)


def test_texts_of_python_2(tmp_path):
    from tests.convert.pickles.test_tensors import read

    numbers = np.arange(70.0, dtype=np.float32)
    (tmp_path / "w.pkl").write_bytes(
        b"\x80\x02}q\x01U\x01acnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
        b"K\x00\x85U\x01bq\x04\x87Rq\x05(K\x01KF\x85cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87Rq\x07"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x18\x01\x00\x00"
        + numbers.tobytes()
        + b"tbs."
    )
    np.testing.assert_array_equal(read(tmp_path / "w.pkl")["a"], numbers)


@pytest.mark.parametrize(
    "wrapper",
    ["model_state_dict", "module", "ema", "params", "teacher", "network", "weights", "anything"],
)
def test_the_state_dict_is_found_wherever_it_stands(wrapper, weights, told):
    rows, _ = told({"a": [1, {"b": {wrapper: tensors_of(weights)}}], "epoch": 3})
    assert rows["unwrapped"] == f"a > 1 > b > {wrapper}"
    told.holds(weights)


def test_several_state_dicts_are_named_and_can_be_chosen(weights, told, tmp_path, capsys):
    average = small_weights(seed=1, **SMALLEST)
    both = {"model": tensors_of(weights), "model_ema": tensors_of(average), "epoch": 3}
    count = len(weights)
    _, said = told(both)
    assert (
        f"model was taken ({count} tensors); the file holds model_ema ({count} tensors), too: "
        "--from model_ema takes that\n"
    ) in said
    told.holds(weights)
    _, said = told(both, "--from", "model_ema")
    assert "--from model takes that" in said
    told.holds(average)

    deep = {"state": {"student": tensors_of(weights), "teacher": tensors_of(average)}}
    assert told(deep)[0]["unwrapped"] == "state > student"
    assert told(deep, "--from", "state/teacher")[0]["unwrapped"] == "state > teacher"
    told.holds(average)

    flat = {**tensors_of(weights), "ema": tensors_of(average)}
    told(flat, "--from", ".")
    told.holds(weights)

    save({"ema": tensors_of(weights), "teacher": tensors_of(average)}, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "2", status=2)
    said = capsys.readouterr().err
    assert f"2 state dicts, ema ({count} tensors), teacher ({count} tensors)" in said
    assert "--from ema" in said
    convert(tmp_path / "w.pth", tmp_path / "2", "--from", "nothing", status=2)
    assert "--from nothing names none of the state dicts" in capsys.readouterr().err


def test_wrappers_are_stripped_wherever_they_stand(weights, told):
    names = {
        "_orig_mod.{}": "_orig_mod.",
        "module._orig_mod.{}": "module._orig_mod.",
        "_fsdp_wrapped_module.backbone.{}": "_fsdp_wrapped_module.backbone.",
    }
    for pattern, prefix in names.items():
        rows, _ = told({pattern.format(n): t for n, t in tensors_of(weights).items()})
        assert rows["stripped"] == prefix
        told.holds(weights)
    for inner in ("_orig_mod", "module", "_checkpoint_wrapped_module._orig_mod"):
        told(
            {
                n.replace("block1.0.", f"block1.0.{inner}."): t
                for n, t in tensors_of(weights).items()
            }
        )
        told.holds(weights)


def test_an_averaged_model_as_torch_names_it(weights, network, told):
    from torch.optim.swa_utils import AveragedModel

    averaged = AveragedModel(network)
    assert "n_averaged" in averaged.state_dict()
    assert told(averaged.state_dict())[0]["stripped"] == "module."
    told.holds(weights)


def test_two_tensors_of_one_name_are_refused(weights, tmp_path, capsys):
    tensors = tensors_of(weights)
    save({**tensors, "head._orig_mod.bias": torch.zeros(5)}, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "out", status=2)
    said = capsys.readouterr().err
    assert "two tensors are head.bias: head.bias and head._orig_mod.bias" in said


def test_segmentation(weights, told):
    backbone = {n: t for n, t in weights.items() if not n.startswith("head.")}
    for prefix in ("", "module.", "model."):
        tensors = {f"{prefix}backbone.{n}": t for n, t in tensors_of(backbone).items()}
        for name in (
            "decode_head.conv_seg.weight",
            "auxiliary_head.conv_seg.bias",
            "neck.a",
            "neck.b",
        ):
            tensors[f"{prefix}{name}"] = torch.ones(3)
        _, said = told({"state_dict": tensors, "meta": {}})
        assert (
            "this network has more parts than its backbone, which was taken: auxiliary_head, "
            "decode_head, neck (4 tensors) stayed behind\n"
        ) in said
        told.holds(backbone, num_classes=0)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_not_read_are_refused_by_name(kind, weights, tmp_path, capsys):
    tensors = tensors_of(weights)
    unread = {
        "torch._utils._rebuild_sparse_tensor": torch.ones(5, 64).to_sparse(),
        "torch._utils._rebuild_meta_tensor_no_storage": torch.ones(5, 64, device="meta"),
        "builtins.complex": 1 + 2j,
    }
    if kind == "zip":
        unread["torch._utils._rebuild_qtensor"] = torch.quantize_per_tensor(
            torch.ones(5, 64), 0.1, 0, torch.qint8
        )
    for name, value in unread.items():
        save({"model": {**tensors, "head.weight": value}}, tmp_path / "w.pth", kind)
        convert(tmp_path / "w.pth", tmp_path / "out", status=2)
        assert f"head.weight is a {name}, which is not read" in capsys.readouterr().err
    save({"model": {**tensors, "head.weight": [[1.0]]}}, tmp_path / "w.pth", kind)
    convert(tmp_path / "w.pth", tmp_path / "out", status=2)
    assert "head.weight is a list, and not a tensor" in capsys.readouterr().err


def test_zero_3_shards_are_told_how_to_be_made_one(weights, tmp_path, capsys):
    empty = {name: torch.zeros(0) for name in weights}
    save({"module": empty, "param_shapes": [{}], "ds_version": "0.18"}, tmp_path / "w.pt")
    convert(tmp_path / "w.pt", tmp_path / "out", status=2)
    assert "`python zero_to_fp32.py . whole`" in capsys.readouterr().err
    state = {"zero_stage": 3, "fp32_flat_groups": [torch.ones(7)]}
    save({"optimizer_state_dict": state, "ds_config": {}}, tmp_path / "w.pt")
    convert(tmp_path / "w.pt", tmp_path / "out", status=2)
    assert "`python zero_to_fp32.py . whole`" in capsys.readouterr().err
