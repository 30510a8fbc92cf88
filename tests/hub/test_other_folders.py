"""Folders that hold no weights which can be read: what they are, and the command for each."""

import pytest

import convert_weights
from tests.convert.files import small_weights, to_torch_tensors
from tests.convert.test_files import assert_holds


@pytest.mark.parametrize(
    ("entries", "messages"),
    [
        (["params/d", "batch_stats/d", "meta/metadata"], ["a checkpoint of this program"]),
        (["checkpoints/10/params/d"], ["a run's folder, which load_pretrained reads as it is"]),
        (
            ["10/params/d", "10/meta/metadata"],
            ["python convert_weights.py --to-torch 'a b' out.pth"],
        ),
        (
            ["__0_0.distcp", ".metadata"],
            [
                "python -m torch.distributed.checkpoint.format_utils dcp_to_torch 'a b' out.pth",
                "python convert_weights.py out.pth out converts that",
            ],
        ),
        (
            ["pytorch_model_fsdp_0/__0_0.distcp"],
            ["dcp_to_torch 'a b/pytorch_model_fsdp_0' out.pth"],
        ),
        (
            ["zero_to_fp32.py", "latest", "global_step3/mp_rank_00_model_states.pt"],
            [
                "python -m deepspeed.utils.zero_to_fp32 'a b' out-merged puts it together",
                "python convert_weights.py out-merged out converts that",
            ],
        ),
        (["zero_pp_rank_0_mp_rank_00_optim_states.pt"], ["deepspeed.utils.zero_to_fp32 . out-m"]),
        (["refs/main", "snapshots/abc/x"], ["give a snapshot of it, a b/snapshots/abc"]),
        (["x.pth", "y.safetensors", "z"], ["convert_weights.py 'a b/x.pth' out", "x.pth, y.safe"]),
        (["z", "zz"], ["is a folder in which there is none of model.safetensors,", "but z, zz: "]),
        ([], ["but nothing: give the file of weights, or the folder that it lies in"]),
    ],
)
def test_other_folders_are_named_with_the_command(entries, messages, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for entry in entries:
        path = tmp_path / "a b" / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "a b").mkdir(exist_ok=True)
    assert convert_weights.main(["a b", "out"]) == 2
    said = capsys.readouterr().err
    for message in messages:
        assert message in said


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_command_for_distributed_checkpoints_makes_what_is_read(tmp_path):
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    weights = small_weights()
    dcp.save({"model": to_torch_tensors(weights)}, checkpoint_id=tmp_path / "in", no_dist=True)
    assert convert_weights.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    dcp_to_torch_save(tmp_path / "in", tmp_path / "out.pth")  # what the command calls
    assert convert_weights.main([str(tmp_path / "out.pth"), str(tmp_path / "out")]) == 0
    assert_holds(tmp_path / "out", weights)
