"""One study of cell shape over time: from a film to tables, codes, a shape model and numbers."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DatasetError
from ..evaluation.bootstrap import resamples
from .features import DESCRIPTORS, shape_table
from .film import Film
from .growth import doubling_time
from .shape_space import fit_linear, held_out_tracks, overlap
from .shape_time import RESAMPLES, Growth, correlations, growth, limits, time_table
from .shape_vae import ShapeVAE, VAEOptions, decode, encode, train_vae
from .surroundings import require_near

__all__ = ["LEAST_SHAPES", "Study", "numbers", "study"]

LEAST_SHAPES = 20  # whole cells, fewer give no model
Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Study:
    """What :func:`study` finds.

    Attributes:
        film: the data.
        table: a row a cell and frame, see :func:`.features.shape_table`, and ``held_out`` (bool), ``iou`` of the
            model's reconstruction, the codes ``z1`` ...
        over_time: a row a time, see :func:`.shape_time.time_table`.
        images: (N, SIDE, SIDE) float32 aligned masks, in the table's order.
        rebuilt, linear: (N, SIDE, SIDE) float32, what the model and as many principal components make of them.
        model: trained on the cells that are neither held out nor cut by the frame of their image.
        reconstruction, relations: numbers for :func:`numbers`.
        growth: of the population.
    """

    film: Film
    table: pd.DataFrame
    over_time: pd.DataFrame
    images: np.ndarray
    rebuilt: np.ndarray
    linear: np.ndarray
    model: ShapeVAE
    reconstruction: dict[str, Any]
    relations: dict[str, dict[str, dict]]
    growth: Growth

    @property
    def latents(self) -> list[str]:
        """Columns of the codes."""
        return [f"z{k + 1}" for k in range(self.model.options.latent)]

    @property
    def whole(self) -> np.ndarray:
        """(N,) bool: cells that the frame does not cut."""
        return ~self.table["at_border"].to_numpy()


def study(film: Film, options: VAEOptions, track: Track = lambda items, title: items) -> Study:
    """Measure all shapes, train the shape model, and look at both over time.

    Cells that touch the frame of their image get descriptors and codes, but teach the model nothing and are in no mean
    and no correlation: the frame may have cut them. They count for the growth.

    Args:
        film: from :func:`.film.read_film`.
        track: wraps what is gone through and names it, to show progress.

    Raises:
        DatasetError: tracks that jump (see :func:`.surroundings.require_near`), too few whole cells, or all of one
            track.
    """
    require_near(film)
    table, aligned = shape_table(film, lambda cells: track(cells, "shapes"))
    images = np.stack([one.image for one in aligned])
    whole, tracks = ~table["at_border"].to_numpy(), np.array([cell.track for cell in film.cells])
    if whole.sum() < LEAST_SHAPES or len(np.unique(tracks[whole])) < 2:
        there = f"{whole.sum()} cells of {len(np.unique(tracks[whole]))} tracks do not touch the frame of their image"
        raise DatasetError(f"{film.path}: {there}; a model of shapes takes {LEAST_SHAPES} cells and 2 tracks at least")
    held = np.zeros(len(table), dtype=bool)
    held[whole] = held_out_tracks(tracks[whole], options.seed)
    taught = whole & ~held
    if options.latent >= taught.sum():
        raise DatasetError(f"{options.latent} latents for {taught.sum()} cells: take fewer, --latent 4")
    model = train_vae(images[taught], options, track)
    codes = encode(model, images)
    rebuilt, linear = decode(model, codes), fit_linear(images[taught], options.latent).rebuilt(images)
    scores = np.stack([overlap(rebuilt, images), overlap(linear, images)])
    latents = [f"z{k + 1}" for k in range(options.latent)]
    table = pd.concat([table.assign(held_out=held, iou=scores[0]), pd.DataFrame(codes, columns=latents)], axis=1)
    columns, unit = [*DESCRIPTORS, *latents], "track" if film.tracked else "image"
    return Study(
        film, table, time_table(table[whole], columns, options.seed, unit), images, rebuilt, linear.astype(np.float32),
        model,
        _compared(scores, held, tracks, taught, options.seed),
        correlations(table[whole], columns, options.seed, unit),
        growth(film, options.seed),
    )  # fmt: skip


def numbers(found: Study) -> dict[str, Any]:
    """All numbers of a study as nested dicts; NaN and infinity are what does not exist."""
    film, growing = found.film, found.growth
    return {
        "json": str(film.path),
        "images": len(film.images),
        "cells": len(film.cells),
        "too_small": film.left_out,
        "at_border": int((~found.whole).sum()),
        "tracks": len(film.tracks) if film.tracked else None,
        "time": {"unit": film.unit, "source": film.source, "first": film.times.min(), "last": film.times.max()},
        "options": asdict(found.model.options),
        "parameters": sum(p.numel() for p in found.model.parameters()),
        "reconstruction": found.reconstruction,
        "growth": {
            "times": growing.times.tolist(),
            "cells_an_image": growing.counts.tolist(),
            "better": growing.fits[0].name if growing.fits else None,
            "fits": [{**asdict(fit), "doubling": doubling_time(fit.rate)} for fit in growing.fits],
            "doubling": growing.doubling,
            "doubling_interval": list(growing.interval),
            "rates": growing.rates.tolist(),
            "phases": growing.phases,
        },
        "correlations": found.relations,
    }


def _compared(
    scores: np.ndarray, held: np.ndarray, tracks: np.ndarray, taught: np.ndarray, seed: int
) -> dict[str, Any]:
    """Mean IoU of held-out shapes by model and by principal components, and their difference over resampled tracks."""
    names, own = np.unique(tracks[held], return_inverse=True)
    vae, pca = scores[:, held]
    weights = resamples(np.ones(len(names), dtype=bool), RESAMPLES, seed)[:, own]
    drawn = (weights @ (vae - pca) / weights.sum(axis=1))[:, None]
    low, high = limits(drawn)[:, 0] if len(names) > 1 else (np.nan, np.nan)
    return {
        "held_out_tracks": len(names),
        "held_out_cells": int(held.sum()),
        "vae": float(vae.mean()),
        "pca": float(pca.mean()),
        "difference": float((vae - pca).mean()),
        "low": float(low),
        "high": float(high),
        "vae_training": float(scores[0, taught].mean()),
        "pca_training": float(scores[1, taught].mean()),
    }
