"""A lock in a folder and one in a bucket: one owner, whose death is noticed, and whose loss is."""

import dataclasses
import os
import subprocess
import sys
import time
import types

import pytest
from etils import epath

import shunted_jax
from shunted_jax.errors import LockError
from shunted_jax.locks import Lock, alone_at, folder, lock
from shunted_jax.locks.owner import Owner, owner_in, this_process
from tests.support.emulated_bucket import emulated_bucket

# Takes a lock when it is told to, says what came of it, and keeps it. The package's own file, which
# imports JAX, is left out.
HOLD = """
import sys, types
sys.modules["shunted_jax"] = types.ModuleType("shunted_jax")
sys.modules["shunted_jax"].__path__ = [sys.argv[2]]
from etils import epath
from shunted_jax.errors import LockError
from shunted_jax.locks import Lock

path = epath.Path(sys.argv[1])
lock = Lock(path, path.parent, "wait")
print("ready", flush=True)
sys.stdin.readline()
try:
    print(lock.attempt(), flush=True)
except LockError as error:
    print(error, flush=True)
sys.stdin.readline()
lock.release()
"""


class Place:
    """A lock's file, in a folder or in a bucket."""

    def __init__(self, path, bucket=None):
        self.path, self._bucket = path, bucket
        self.environment = {**os.environ, **(bucket.environment if bucket else {})}

    def lock(self):
        return Lock(self.path, self.path.parent, "wait")

    def write(self, content):
        """Writes the file as somebody else does."""
        self.path.write_text(content)

    def owner(self):
        return owner_in(self.path.read_bytes())

    def start(self, count=1):
        """Returns processes that are about to take it."""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", HOLD, os.fspath(self.path), shunted_jax.__path__[0]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self.environment,
            )
            for _ in range(count)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        return processes


def go(processes):
    """Lets processes take it at once, and returns what they say."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with emulated_bucket(tmp_path_factory.mktemp("emulator")) as bucket:
        yield bucket


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0.01)
    if request.param == "folder":
        return Place(epath.Path(tmp_path / "lock.json"))
    bucket = request.getfixturevalue("bucket")
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return Place(epath.Path(f"gs://bucket/{tmp_path.name}/lock.json"), bucket)


def test_of_several_at_once_one_takes_it_and_when_killed_leaves_it(place):
    processes = place.start(3)
    said = go(processes)
    (winner,) = [i for i, line in enumerate(said) if line == "True"]
    who = f"is in use by process {processes[winner].pid} on host "
    assert [who in line for line in said] == [i != winner for i in range(3)], said
    assert all(line.endswith(" UTC: wait") for line in said if line != "True")

    with pytest.raises(LockError, match=who):
        place.lock().attempt()
    processes[winner].kill()
    processes[winner].wait()
    mine = place.lock()
    assert mine.attempt()  # the first time that it asks
    with pytest.raises(LockError, match=f"by process {os.getpid()} on "):
        place.lock().attempt()
    mine.check()
    mine.release()
    assert not place.path.exists()
    for process in processes:
        process.communicate("\n")


OTHER_HOST = Owner("a", "node7", 12, "2026-01-31 06:05:00 UTC", "Slurm job 4711", boot="another")


@pytest.mark.parametrize("content", [OTHER_HOST.to_json(), ""], ids=["other-host", "unsaid"])
def test_an_owner_elsewhere_is_dead_once_it_shows_nothing(place, content, monkeypatch, caplog):
    clock = iter((0, 5, 119.9, 120)).__next__
    monkeypatch.setattr(lock, "time", types.SimpleNamespace(monotonic=clock, sleep=time.sleep))
    place.write(content)
    mine = place.lock()
    answers = [mine.attempt() for _ in range(4)]
    assert answers == [False, False, False, True]
    assert place.owner().pid == os.getpid()
    if content:
        who = "process 12 on host node7 (Slurm job 4711), since 2026-01-31 06:05:00 UTC"
        assert f"{who} may still write there; waiting up to 120 s" in caplog.text
    mine.release()


def test_an_owner_elsewhere_that_renews_it_lives(place):
    place.write(OTHER_HOST.to_json())
    mine = place.lock()
    assert not mine.attempt()
    place.write(OTHER_HOST.to_json())
    with pytest.raises(
        LockError, match="UTC: wait. If you know that it has ended, delete "
    ) as told:
        mine.attempt()
    assert str(told.value).endswith(os.fspath(place.path))
    assert place.owner() == OTHER_HOST


def test_who_was_about_to_say_who_it_is_is_waited_for(place):
    place.write("")
    mine = place.lock()
    assert not mine.attempt()
    place.write(OTHER_HOST.to_json())
    assert not mine.attempt()
    place.write(OTHER_HOST.to_json())
    with pytest.raises(LockError, match="on host node7"):
        mine.attempt()


def attempts(lock):
    """Asks for a lock again and again."""
    return [lock.attempt() or time.sleep(0.02) for _ in range(500)]


def test_owners_show_that_they_live(place, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    mine = place.lock()
    assert mine.attempt()
    # As another host sees it.
    monkeypatch.setattr(Owner, "on_this_machine", lambda owner: False)
    other = place.lock()
    with pytest.raises(LockError, match="is in use by"):
        attempts(other)
    mine.release()
    assert other.attempt()
    other.release()


@pytest.mark.parametrize("taken", [True, False])
def test_loss_is_noticed_and_what_is_anothers_stays(place, taken):
    mine = place.lock()
    assert mine.attempt()
    if taken:
        place.write(OTHER_HOST.to_json())
        said = "process 12 on host node7 .*, has it. Nothing was written over"
    else:
        place.path.unlink()
        said = "lock.json is gone. Nothing was written over"
    mine._place.renew()
    with pytest.raises(LockError, match=said):
        mine.check()
    mine.release()
    assert place.path.exists() == taken
    if taken:
        assert place.owner() == OTHER_HOST


def test_what_changed_since_it_was_found_is_not_removed(place):
    place.write(OTHER_HOST.to_json())
    mine = place.lock()
    found = mine._place.take(this_process())
    place.write(OTHER_HOST.to_json())
    mine._place.remove(found)
    assert place.owner() == OTHER_HOST
    mine._place.remove(mine._place.take(this_process()))
    assert not place.path.exists()


def as_in_another_container(path):
    """Has the owner in a file be in a container, with the number 1."""
    owner = owner_in(path.read_bytes())
    path.write_text(dataclasses.replace(owner, pid=1, pid_namespace=1).to_json())


def test_the_kernel_knows_of_containers_on_this_machine(tmp_path):
    place = Place(epath.Path(tmp_path / "lock.json"))
    (process,) = place.start()
    assert go([process]) == ["True"]
    as_in_another_container(place.path)
    with pytest.raises(LockError, match="by process 1 on host .* UTC: wait$"):
        place.lock().attempt()
    process.kill()
    process.communicate()
    mine = place.lock()
    assert mine.attempt()
    mine.release()


def test_without_the_kernels_locks_the_process_is_looked_for(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(folder.fcntl, "flock", none)
    place = Place(epath.Path(tmp_path / "lock.json"))
    mine = place.lock()
    assert mine.attempt()
    assert place.owner().device is None
    with pytest.raises(LockError, match=f"by process {os.getpid()} on"):
        place.lock().attempt()
    number = dataclasses.replace(place.owner(), pid=2**22 + 1)
    place.path.write_text(number.to_json())
    other = place.lock()
    assert other.attempt()
    other.release()


def test_a_lock_of_another_mount_is_not_taken_for_free(tmp_path):
    """Two mounts of one folder need not know of each other's locks."""
    path = epath.Path(tmp_path / "lock.json")
    elsewhere = dataclasses.replace(this_process(), pid=1, pid_namespace=1, device=1)
    path.write_text(elsewhere.to_json())
    assert not Place(path).lock().attempt()
    assert path.exists()


def test_what_the_file_system_says_is_said(tmp_path):
    with pytest.raises(LockError, match=r"lock.json cannot be written or read: No such file or d"):
        Place(epath.Path(tmp_path / "none" / "lock.json")).lock().attempt()


def test_one_at_a_time_makes_what_is_to_be_there(tmp_path):
    path = epath.Path(tmp_path / "out")
    with alone_at(path):
        with pytest.raises(LockError, match="out is in use by .*: wait until"), alone_at(path):
            pass
        assert [file.name for file in tmp_path.iterdir()] == [".out.lock"]
    with alone_at(path):
        pass
    assert list(tmp_path.iterdir()) == []
