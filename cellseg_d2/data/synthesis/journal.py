"""What is done of an extension: a line of JSON an image, so that a broken-off run loses at most the last one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...files import read_json

__all__ = ["Journal"]


class Journal:
    """The lines of the images that are done, in their order, in a folder's ``annotations.partial.jsonl``.

    The first line is the recipe, so that a folder cannot be gone on with by another one.

    Attributes:
        target: the JSON that is written in the end.
        count: images that are done.

    Raises:
        DatasetError: the folder holds something else.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.recipe, self.target = recipe, folder / "annotations.json"
        self.path = folder / "annotations.partial.jsonl"
        self.count = 0
        if self.complete:
            self._require(_extension(read_json(self.target)), self.target)
        elif self.path.is_file() and self.path.stat().st_size:
            self._mend()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._append(json.dumps(recipe))

    @property
    def complete(self) -> bool:
        """The JSON is there."""
        return self.target.is_file()

    def append(self, line: str) -> None:
        """Add an image."""
        self._append(line)
        self.count += 1

    def lines(self) -> Iterator[dict[str, Any]]:
        """What was added, one image after the other."""
        with open(self.path, encoding="utf-8") as file:
            next(file)
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Delete the file; the JSON has all of it."""
        self.path.unlink()

    def _append(self, line: str) -> None:
        """Add a line, or, where that fails, nothing."""
        content = memoryview(line.encode() + b"\n")
        with open(self.path, "ab", buffering=0) as file:
            end = file.tell()
            try:
                while content:
                    content = content[file.write(content) :]
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise

    def _mend(self) -> None:
        """Count the lines and cut off one that is not complete."""
        with open(self.path, "rb+") as file:
            first = file.readline()
            complete = file.tell() if first.endswith(b"\n") else 0
            try:
                self._require(json.loads(first), self.path)
            except ValueError as error:
                raise error if isinstance(error, DatasetError) else self._other(self.path) from None
            for line in file:
                if not line.endswith(b"\n"):
                    break
                complete += len(line)
                self.count += 1
            file.truncate(complete)

    def _require(self, recipe: Any, path: Path) -> None:
        """The folder is that of this recipe."""
        if recipe != self.recipe:
            raise self._other(path)

    @staticmethod
    def _other(path: Path) -> DatasetError:
        """For a folder of something else."""
        return DatasetError(
            f"{path} belongs to another extension or data set; choose another --output, or delete that file"
        )


def _extension(content: Any) -> Any:
    """The recipe that a JSON says it was made by; None where it says nothing."""
    info = content.get("info") if isinstance(content, dict) else None
    return info.get("extension") if isinstance(info, dict) else None
