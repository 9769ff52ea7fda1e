"""How the tools end: exit codes, and one line for what the user can put right."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

__all__ = ["STOPPED", "UNREAD", "UNUSABLE", "run_tool"]

UNUSABLE, STOPPED, UNREAD = 2, 130, 141  # the last two as shells have them: 128 and the signal's number


def run_tool(
    work: Callable[[], int | None], *errors: type[Exception], program: str = "", stopped: str = "stopped"
) -> int:
    """Do the work of a command line.

    Args:
        work: gives the exit code (None is 0).
        errors: of the user, besides ValueError and OSError, of which are the data sets' own.
        program: its name in messages; that of the running script where it is empty.
        stopped: what to say after Ctrl-C.

    Returns:
        What ``work`` gave; 2 after an error, which stands on stderr in one line where it is the user's, and with a
        traceback where it is a fault of ours or the environment has CELLSEG_DEBUG=1; 130 after Ctrl-C; 141 where nobody
        reads on what is printed, which stops the work.
    """
    program = program or Path(sys.argv[0]).name
    sys.stdout.reconfigure(errors="replace")  # terminals that know ASCII only
    try:
        return work() or 0
    except BrokenPipeError:  # who reads has seen enough, as of "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: {stopped}\n")
        return STOPPED
    except Exception as error:
        if os.environ.get("CELLSEG_DEBUG") == "1" or not isinstance(error, (ValueError, OSError, *errors)):
            traceback.print_exc()
        else:
            sys.stderr.write(f"{program}: {error}\n")
        return UNUSABLE
