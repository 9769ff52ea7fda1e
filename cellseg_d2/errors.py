"""Errors that are the data's, not the program's: tools show their message without a traceback."""

__all__ = ["DatasetError", "MissingDataError"]


class DatasetError(ValueError):
    """A data set or result file that cannot be used as it is; the message says what is wrong, where, and what to do."""


class MissingDataError(DatasetError, FileNotFoundError):
    """A file or folder of a data set is not there."""
