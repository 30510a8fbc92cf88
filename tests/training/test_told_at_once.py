"""What is told when a run is made, and not after its first epoch or its last."""

import logging

import pytest

from shunted_jax.config import resolve
from shunted_jax.errors import UserError
from shunted_jax.training.run import make_run
from tests.data.images import write_tree
from tests.support.tiny import tiny_config


@pytest.mark.parametrize(("decay", "said"), [(0.9999, True), (0.77, False), (None, False)])
def test_an_average_of_initial_parameters_is_told(make_config, caplog, decay, said):
    # timm#245 and mmpretrain#870: the average of a short run scored as if nothing was learned.
    caplog.set_level(logging.WARNING, logger="shunted_jax")
    run = make_run(make_config(ema_decay=decay))
    assert run.total_steps == 9
    expected = (
        "config.ema_decay=0.9999 is slow for 9 steps: at the end, 100 % of the average will be "
        "the initial parameters, and the best checkpoint is chosen by it; take 0.5995 or less"
    )
    assert [record.getMessage() for record in caplog.records] == ([expected] if said else [])


@pytest.mark.parametrize("field", ["train_split", "eval_split"])
def test_a_split_that_holds_nothing(tiny_variant, tmp_path, field):
    # datasets#3782: what a part of a split is called is easily got wrong.
    tree = write_tree(tmp_path, {"train": {"a": 5, "b": 4}})
    splits = {"train_split": "train", "eval_split": "train", field: "train[:1%]"}
    config = tiny_config(None, model={"name": tiny_variant}, data={"dataset": tree, **splits})
    with pytest.raises(UserError, match=r", train\[:1%\] holds no examples: take another split"):
        make_run(resolve(config))
