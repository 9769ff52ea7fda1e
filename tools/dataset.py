#!/usr/bin/env python
"""Work with COCO data sets. Exit code: 0 all is well, 1 there is something to look at, 2 unusable input.

"dataset.py COMMAND --help" has the options and an example.
"""

import argparse
import sys

from cellseg_d2.command_line import run_tool
from cellseg_d2.commands import add_commands


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_commands(parser)
    args = parser.parse_args()
    return run_tool(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
