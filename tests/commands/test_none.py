"""What is on in a configuration's file can be switched off where it is started."""

from shunted_jax.commands.command_line import split_off_none


def test_none_is_no_text_and_no_number():
    # mmcv#1112: it looked for a checkpoint that is called None.
    off = ["--config.init_from=None", "--config.optimizer.clip_norm=none", "-config.ema_decay=None"]
    on = ["train.py", "--config=a.py", "--workdir=None", "--config.init_from=./None"]
    wrong = [
        "--config.epochs=None",
        "--config.none_such=None",
        "--config.seed.x=None",
        "--mode=None",
    ]
    kept, fields = split_off_none([*on, *off, *wrong])
    assert kept == [*on, *wrong]
    assert fields == [("init_from",), ("optimizer", "clip_norm"), ("ema_decay",)]
