"""Eight simulated CPU devices for the whole suite, and the fixtures that several folders share."""

import os
import tempfile

import hypothesis
import jax
import pytest

# Compiling is most of what the suite does, and takes two thirds of the time without optimisation.
# The programs that tests start as processes of their own are compiled as users compile them.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

# Before anything asks for a device. One-device tests use the first of them.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

# What one test has compiled, the next one that runs the same program takes from here.
_cache = tempfile.TemporaryDirectory(prefix="shunted-jax-tests-")
jax.config.update(
    "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", _cache.name)
)

# The same examples every time, whatever they take; a network that fails is not worth minutes of
# compiling smaller ones.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("suite")

# Some of the tests' libraries read absl's flags, which only a program's start parses.
from absl import flags  # noqa: E402

flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """Returns a folder with the `digits` data set, prepared by the real builder."""
    from shunted_jax.commands.prepare import prepare_digits

    data_dir = tmp_path_factory.mktemp("data")
    prepare_digits(data_dir)
    return str(data_dir)


@pytest.fixture
def tiny_variant(monkeypatch):
    """Returns the name of a variant that compiles in seconds; the registry has it for one test."""
    from shunted_jax.models import registry
    from tests.support.tiny import TWO_STAGES

    monkeypatch.setitem(registry.VARIANTS, "tiny", TWO_STAGES)
    return "tiny"
