"""In a notebook, and in a program without absl, nobody parses the flags that Grain asks."""

from absl import flags

from shunted_jax.adapters.grain import start_helper_of_workers


def test_grains_flags_count_as_parsed_where_nobody_parsed_them():
    # tensorflow#16935: UnparsedFlagAccessError, in Jupyter alone.
    flags.FLAGS.unparse_flags()
    try:
        start_helper_of_workers()
        assert flags.FLAGS.is_parsed()
        assert not flags.FLAGS.grain_enable_multiprocess_worker_profiling
    finally:
        flags.FLAGS.mark_as_parsed()
