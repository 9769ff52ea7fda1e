"""The sub-commands of ``tools/dataset.py``, a module each: ``add_arguments`` says what it takes, ``run`` does it.

``run`` returns the exit code: 0 all is well, 1 there is something to look at. Input that cannot be used raises.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from types import ModuleType

from . import bank, check, convert, download, extend, merge, pca, shapes, split, stats

__all__ = ["COMMANDS", "add_commands"]

COMMANDS = (download, check, stats, pca, convert, split, merge, bank, extend, shapes)


def add_commands(parser: ArgumentParser) -> None:
    """Give the parser all sub-commands; the chosen one's function is ``args.run`` then."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        _add(command, commands)


def _add(command: ModuleType, commands) -> None:
    """One sub-command: its docstring's first line in the list, the whole of it on its own page."""
    text = command.__doc__
    own = commands.add_parser(
        command.__name__.rpartition(".")[2],
        help=text.partition("\n")[0].rstrip("."), description=text, formatter_class=RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_arguments(own)
    own.set_defaults(run=command.run)
