"""Cells linked by Trackastra (Gallusser and Weigert 2024), a transformer that looks at the images too."""

import contextlib
import importlib
import io
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.errors import UserError
from ...inference.writers import label_image
from .detections import Detections, detections_of
from .tracks import Tracks, tracks_of

__all__ = ["TrackastraError", "link_by_trackastra", "load_trackastra", "tracks_of_graph"]

MAX_DISTANCE = 256  # pixels: Trackastra's own limit of a link


class TrackastraError(UserError):
    """Trackastra is not installed, or has no such model."""


def link_by_trackastra(
    frames: Sequence[Sequence[Mapping[str, Any]]],
    images: Sequence[np.ndarray],
    model: Any,
    *,
    overlap: str = "score",
    divisions: bool = True,
) -> Tracks:
    """Follow cells through a film by what a trained network says of each pair of cells of neighbouring frames.

    Links of a probability above one half are taken greedily, the surest first; a cell gets at most two of them to the
    next frame, which then are daughters. Gaps are not closed. All images and label images are in memory.

    Args:
        frames: of each frame its cells, COCO results as :func:`.linking.link` takes them.
        images: of each frame (H, W) grey values.
        model: of :func:`load_trackastra`.
        overlap: which cell the network sees where masks overlap, see
            :func:`~cellseg_d2.inference.writers.label_image`; one that others cover wholly is a track of its own.
        divisions: let cells have two successors.

    Raises:
        ValueError: images of another number or size than the frames.
        DatasetError: a cell without a usable mask; see :func:`.detections.detections_of`.
    """
    cells = detections_of(frames)
    if len(images) != len(frames) or (len(cells) and any(image.shape != cells.size for image in images)):
        raise ValueError(f"{len(frames)} frames of {cells.size} pixels, images of {[image.shape for image in images]}")
    if len(np.unique(cells.frame)) < 2:
        return tracks_of(cells, np.full(len(cells), -1, dtype=np.int64), {}, float(MAX_DISTANCE))
    labels = np.stack([label_image(of_frame, *cells.size, overlap) for of_frame in frames]).astype(np.int32)
    grey = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    mode = "greedy" if divisions else "greedy_nodiv"
    terminal = sys.stderr.isatty()  # elsewhere its bars, five a film, would fill a log
    with contextlib.nullcontext() if terminal else contextlib.redirect_stderr(io.StringIO()):
        graph, _ = model.track(grey, labels, mode=mode, max_distance=MAX_DISTANCE)
    return tracks_of_graph(cells, graph)


def load_trackastra(model: str | Path | None = None, device: str | None = None) -> Any:
    """A Trackastra model.

    Args:
        model: a folder with ``model.pt``, ``config.yaml`` and ``train_config.yaml``, or the name of a published model,
            which Trackastra downloads the first time; None: its "general_2d".
        device: "cpu" or "cuda"; None: a GPU where there is one.

    Raises:
        TrackastraError: Trackastra is not installed, or there is no such model.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        trackastra = importlib.import_module("trackastra.model").Trackastra
    except ImportError as error:
        raise TrackastraError(
            f"--tracker trackastra needs Trackastra ({error}): pip install 'cellseg_d2[trackastra]'"
        ) from error
    finally:  # its import sets up logging for the whole program
        root.handlers, root.level = handlers, level
    model, device = model or "general_2d", device or "automatic"
    try:
        if Path(model).is_dir():
            return trackastra.from_folder(Path(model), device=device)
        return trackastra.from_pretrained(str(model), device=device)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrackastraError(f"--tracker-model {model}: no Trackastra model could be loaded ({error})") from error


def tracks_of_graph(cells: Detections, graph: Any) -> Tracks:
    """The tracks of a graph of cells.

    Args:
        graph: a ``networkx.DiGraph``. Its nodes have ``time``, the frame, and ``label``, the cell's place in its frame
            from 1; edges lead to later frames. A node has at most one predecessor; with two successors it is a mother.
    """
    index = {(frame, place + 1): n for n, (frame, place) in enumerate(zip(cells.frame.tolist(), cells.place.tolist()))}
    number = {node: index[int(data["time"]), int(data["label"])] for node, data in graph.nodes(data=True)}
    successor, mothers = np.full(len(cells), -1, dtype=np.int64), {}
    for node in graph.nodes:
        after = sorted(number[other] for other in graph.successors(node))
        if after:
            successor[number[node]] = after[0]
        mothers.update(dict.fromkeys(after[1:], number[node]))
    return tracks_of(cells, successor, mothers, float(MAX_DISTANCE))
