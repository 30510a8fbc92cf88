"""Some inputs of `make fuzz`, changed at random: a result or a clear message, and nothing else."""

import random

import pytest

from tests.convert import fuzz

COUNT = 150


@pytest.mark.filterwarnings("ignore")
def test_pickles_of_changed_commands_are_read_or_refused(tmp_path):
    rng = random.Random(0)

    def mutate_bytes(content, most):
        changed = bytearray(content or b"N")
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)[:most]

    made = fuzz.sound_files(tmp_path)
    inputs = list(fuzz.seeds(made, "pickle"))
    (tmp_path / "finds").mkdir()
    fuzzed = fuzz.Fuzzed(made, tmp_path, tmp_path / "finds")
    for content in inputs[:5]:
        fuzzed(content)
    assert fuzzed.converted == 5
    mutate = fuzz.mutator(fuzz.pool_of(inputs), mutate_bytes)
    for seed in range(COUNT):
        fuzzed(mutate(inputs[rng.randrange(5)], 1 << 17, seed))
    assert fuzzed.runs == 5 + COUNT
    assert not fuzzed.found
    # Some changes leave the file sound, and most do not.
    assert 5 < fuzzed.converted < 5 + COUNT // 2
