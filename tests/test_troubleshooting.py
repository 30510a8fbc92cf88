"""docs/troubleshooting.md has every message with which the package ends a program, and no other."""

import re

from tests.support.messages import FILLED, PAGE, documented, is_of, without_entry, without_message


def test_page_has_every_message():
    missing = [f"{m.where}: {m.text.replace(FILLED, 'X')}" for m in without_entry(PAGE.read_text())]
    assert not missing, "give these an entry:\n" + "\n".join(missing)


def test_page_has_no_message_that_is_gone():
    gone = without_message(PAGE.read_text())
    assert not gone, "nothing says these any more:\n" + "\n".join(gone)


def test_each_entry_is_explained():
    bare = re.findall(r"^- ``(.+?)``\n(?!\n  \S)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert not bare


def test_an_entry_is_of_its_message_alone():
    entry = "FOLDER has format NUMBER, and this…"
    assert is_of(entry, f"{FILLED} has format {FILLED}, and this program reads another")
    assert not is_of(entry, f"{FILLED} has no format")
    assert not is_of("PATH does not exist", f"{FILLED} does not exist any more")
    assert documented("- ``one\n  message``\n\n  What to do.") == ["one message"]
