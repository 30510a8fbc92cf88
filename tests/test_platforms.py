"""The tests for accelerators: who runs them finds all of them, or is told why there are none."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.platforms import skip_without_devices

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("platform", "message"),
    [
        ("gpu", "SHUNTED_JAX_TEST_PLATFORM=gpu is none of the platforms cpu, cuda, tpu"),
        ("cuda", r"SHUNTED_JAX_TEST_PLATFORM=cuda, and JAX has no such device here \(.*\): leave"),
    ],
)
def test_a_platform_that_is_not_there_is_a_sentence(platform, message):
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/ops/test_gelu.py"],
        cwd=REPOSITORY,
        # No GPU, should there be one.
        env=os.environ | {"SHUNTED_JAX_TEST_PLATFORM": platform, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert re.search(f"^ERROR: {message}", result.stderr, re.M), result.stderr
    assert "passed" not in result.stdout


@pytest.mark.parametrize("count", [1, 1000])
def test_a_test_that_needs_more_devices_is_skipped_with_the_numbers(count):
    item = SimpleNamespace(get_closest_marker=lambda name: getattr(pytest.mark, name)(count).mark)
    if count == 1:
        skip_without_devices(item)
        return
    with pytest.raises(pytest.skip.Exception, match=r"needs 1000 devices, and cpu has 8 here"):
        skip_without_devices(item)


def test_make_names_all_files_that_have_such_tests():
    text = (REPOSITORY / "Makefile").read_text().replace("\\\n", "")
    named = re.search(r"^ACCELERATOR_TESTS := (.*)$", text, re.M)[1].split()
    marked = {
        path.relative_to(REPOSITORY)
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        if re.search(r"pytest\.mark\.accelerator", path.read_text())
    }
    for path in marked:
        assert any(path.is_relative_to(name) for name in named), f"{path} is not in the Makefile"
    for name in named:
        assert any(path.is_relative_to(name) for path in marked), f"{name} has no such test"
