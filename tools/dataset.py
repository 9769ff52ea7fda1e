#!/usr/bin/env python
"""Work with COCO data sets. Exit code: 0 all is well, 1 there is something to look at, 2 unusable input.

"dataset.py COMMAND --help" has the options and an example.
"""

import argparse
import sys
import traceback

from cellseg_d2.commands import add_commands


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_commands(parser)
    args = parser.parse_args()
    try:
        return args.run(args)
    except (ValueError, OSError) as error:  # of these are the data sets' own errors
        print(f"dataset.py: {error}", file=sys.stderr)
        return 2
    except Exception:  # a fault of ours must not look like a finding, whose code is 1
        traceback.print_exc()
        return 2


if __name__ == "__main__":
    sys.exit(main())
