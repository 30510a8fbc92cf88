"""An average that is too slow for its run is said before the run, and not seen after it."""

import logging

import pytest

from shunted_jax.training.run import make_run


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
