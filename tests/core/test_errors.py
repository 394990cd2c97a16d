"""Words that all messages share."""

import errno
import os

import pytest

from core.errors import Cause, InputError, MachineError, cause_of, some


def test_a_long_list_of_names_is_cut() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdefg"), shown=5) == "a, b, c, d, e and 2 more"
    assert some([str(n) for n in range(2000)]).endswith(", 9 and 1,990 more")


NO_SPACE = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (InputError("no such folder [while running 'Read']"), Cause("no such folder", "input")),
        (MachineError("killed"), Cause("killed", "machine")),
        (OSError(errno.ENOSPC, NO_SPACE, "/a/b"), Cause("no space is left on the disk: /a/b", "machine")),
        (OSError(errno.ENOSPC, NO_SPACE, "/from", None, "/to"), Cause("no space is left on the disk: /to", "machine")),
        (OSError(errno.EDQUOT, "…"), Cause("the user's share of the disk is used up", "machine")),
        (RuntimeError(f"/x; {NO_SPACE}\nmore"), Cause("no space is left on the disk: /x", "machine")),
        (
            RuntimeError("database or disk is full"),
            Cause("no space is left on the disk", "machine"),
        ),
        (MemoryError(), Cause("memory ran out", "machine")),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), Cause("/a: Permission denied", "input")),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/a"),
            Cause("FileNotFoundError: [Errno 2] No such file: '/a'"),
        ),
        (ZeroDivisionError("by zero"), Cause("ZeroDivisionError: by zero")),
    ],
    ids=lambda value: type(value).__name__ + (str(value.errno) if isinstance(value, OSError) else ""),
)
def test_who_is_at_fault_is_found_behind_what_frameworks_raise(error: Exception, cause: Cause) -> None:
    assert cause_of(error) == cause
    if cause.blame != "code":
        try:
            try:
                raise error
            except Exception:
                raise ValueError("while it was handled")  # noqa: B904 - so do frameworks
        except ValueError as wrapped:
            assert cause_of(wrapped) == cause
