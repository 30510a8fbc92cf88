"""The devices of the whole suite, and the fixtures that several folders share."""

import os
import tempfile

import hypothesis
import jax
import pytest

from tests.support.platforms import skip_without_devices, use_platform


def pytest_configure():
    use_platform()


def pytest_runtest_setup(item):
    skip_without_devices(item)


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


@pytest.fixture(scope="module")
def float32_products():
    """Has float32 products computed in float32, where a GPU would take TF32 and a TPU bfloat16."""
    with jax.default_matmul_precision("highest"):
        yield


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

    row = {
        "depths": (1, 1),
        "embed_dims": (8, 16),
        "num_heads": (2, 2),
        "mlp_ratios": (2, 2),
        "sr_ratios": (2, 1),
    }
    monkeypatch.setitem(registry.VARIANTS, "tiny", row)
    return "tiny"
