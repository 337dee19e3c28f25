"""Become a program that cannot outlive the launcher.

    python -I -S guard.py PARENT_PID SIGNAL UID:GID|- PROGRAM ARGUMENT...

Runs between fork and exec as a program of its own: a `preexec_fn` in a process with threads may
deadlock, and the death signal must be asked for after the change of user, which clears it.
Standard library only, and imports nothing else of this project: it starts in some 15 ms.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Change user if told to, tie our life to the parent's, then exec the program."""
    parent_pid, death_signal, identity, *command = argv
    # Load the C library first: the new user may not be able to read where Python lives.
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if identity != "-":
        uid, gid = (int(part) for part in identity.split(":"))
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    if libc is not None and libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent_pid):
        sys.exit("the launcher is gone")  # It died before we asked for the signal.
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
