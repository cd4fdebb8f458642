"""Become another program, one that gets a signal as soon as the process that started it is gone, however it went.

`python follow.py SIGNAL PARENT WORDS...`: the signal's number; the id of the process that starts this one, 0 where
that is not known; the program and its arguments. Run by its path, so that nothing else is imported: it costs 20 ms. The
kernel keeps the wish through `execv`, and tells the one process: what that has started is its own to end. Linux only.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def main(number: int, parent: int, words: list[str]) -> None:
    """Become ``words``; end instead where the parent is gone already, for then no signal comes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number)) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
    if parent and os.getppid() != parent:
        sys.exit(f"process {parent}, which started this one, is gone")
    os.execv(words[0], words)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
