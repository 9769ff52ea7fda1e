"""Loaders that are deterministic in (seed, position), for any number of workers and of processes."""

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from . import datasets
from .dataset_mapper import CellDatasetMapper
from .datasets import records as sequences
from .image_io import CorruptImageError, check_percentiles
from .semantic_mapper import SemanticMapper

__all__ = [
    "BatchPositions",
    "CellLoader",
    "build_test_loader",
    "build_train_loader",
    "build_truth_loader",
    "build_val_loss_loader",
]

logger = logging.getLogger(__name__)

Mapper = CellDatasetMapper | SemanticMapper
MAPPERS = {mapper.__name__: mapper for mapper in (CellDatasetMapper, SemanticMapper)}


def build_train_loader(cfg: CfgNode, start_iter: int = 0, seed: int | None = None) -> "CellLoader":
    """Endless loader of training batches of ``SOLVER.IMS_PER_BATCH / processes`` samples.

    The sample at a global position is drawn and augmented by (seed, position) alone. So a run that is resumed at
    iteration k sees exactly what the uninterrupted one sees, with any number of workers; and all processes together
    see what a single one would.

    Args:
        cfg: a config whose data sets are resolved.
        start_iter: the first iteration.
        seed: None takes ``SEED``, or a random one where that is negative. The same in all processes.

    Raises:
        DatasetError: no image to train on, or a batch size that the processes cannot share equally.
        ValueError: an INPUT value that no mapper can be made of.
    """
    batch, world = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch < 1 or batch % world:
        raise datasets.DatasetError(f"SOLVER.IMS_PER_BATCH {batch} cannot be shared equally by {world} processes")
    parts = [datasets.load(name) for name in cfg.DATASETS.TRAIN]
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        parts = [sequences.with_cells(part) for part in parts]
    records = sequences.join(parts)
    if cfg.INPUT.MAPPER == "SemanticMapper" and not sequences.has_cells(records):
        names = tuple(cfg.DATASETS.TRAIN)
        raise datasets.DatasetError(f"DATASETS.TRAIN {names}: none of the {len(records)} images has a cell")
    if not records:
        raise datasets.DatasetError(
            f"no image to train on in DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)}"
            + (": all are without annotations" if cfg.DATASETS.TRAIN else "; name a data set")
        )
    datasets.check_cell_types(cfg, sequences.heads(records))
    if seed is None:
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    positions = BatchPositions(len(records), batch, seed, start_iter, comm.get_rank(), world)
    samples = _Samples(records, _mapper(cfg, is_train=True), cfg.DATALOADER.SKIP_CORRUPT_IMAGES, seed)
    return CellLoader(_data_loader(cfg, samples, batch_sampler=positions))


def build_test_loader(cfg: CfgNode, name: str) -> "CellLoader":
    """Loader of the images of a data set, without annotations, one a batch, each in one process only.

    An image that is skipped as corrupt is in no batch; ``skipped`` names it.
    """
    records = sequences.without_annotations(datasets.load(name))
    samples = _Samples(records, _mapper(cfg, is_train=False), cfg.DATALOADER.SKIP_CORRUPT_IMAGES)
    return CellLoader(_data_loader(cfg, samples, sampler=InferenceSampler(len(records)), batch_size=1))


def build_val_loss_loader(cfg: CfgNode, name: str) -> "CellLoader":
    """Loader of the images of a data set at test size, with their instances and nothing random, one a batch.

    The model's losses talk between processes, so that each of them gets the same number of batches: where the images
    cannot be shared equally, the first ones come again.
    """
    records = datasets.load(name)
    world, rank = comm.get_world_size(), comm.get_rank()
    indices = [index % len(records) for index in range(rank, -(-len(records) // world) * world, world)]
    mapper = _mapper(cfg, is_train=False, with_instances=True)
    samples = _Samples(records, mapper, cfg.DATALOADER.SKIP_CORRUPT_IMAGES, replace=True)
    return CellLoader(_data_loader(cfg, samples, sampler=indices, batch_size=1))


def build_truth_loader(cfg: CfgNode, name: str, limit: int) -> "CellLoader":
    """Loader of images of a data set, at test size with their truth, one a batch, each in one process only.

    They are ``limit`` images, or as many of each cell type as that leaves it, at least one, spread evenly over those of
    the type.
    """
    records = datasets.load(name)
    places: dict[str, list[int]] = {}
    for place, head in enumerate(sequences.heads(records)):
        places.setdefault(head.get("cell_type", ""), []).append(place)
    share = max(limit // len(places), 1)
    records = [records[own[k]] for own in places.values() for k in _evenly(len(own), share)]
    samples = _Samples(records, _mapper(cfg, is_train=False, with_instances=True), cfg.DATALOADER.SKIP_CORRUPT_IMAGES)
    return CellLoader(_data_loader(cfg, samples, sampler=InferenceSampler(len(records)), batch_size=1))


def _evenly(size: int, count: int) -> list[int]:
    """At most ``count`` of the places 0..size - 1, from the first to the last."""
    return np.linspace(0, size - 1, min(count, size)).round().astype(int).tolist()


class BatchPositions(Sampler):
    """Batches of (position, index) of one process, without end.

    Position p of all processes together is place ``p % size`` in the permutation of epoch ``p // size``; iteration k
    covers positions k * batch to (k + 1) * batch, of which each process takes its equal share.

    Args:
        size: number of samples.
        batch: samples an iteration, over all processes; a multiple of ``world``.
        seed: with the epoch it makes the permutation.
        start_iter: the first iteration.
        rank, world: this process and the number of them.
    """

    def __init__(self, size: int, batch: int, seed: int, start_iter: int = 0, rank: int = 0, world: int = 1) -> None:
        self.size, self.batch, self.seed, self.start_iter = size, batch, seed, start_iter
        self.share = batch // world
        self.offset = rank * self.share

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Batches from ``start_iter`` on."""
        epoch, order = -1, []
        position = self.start_iter * self.batch + self.offset
        while True:
            batch = []
            for place in range(position, position + self.share):
                if place // self.size != epoch:
                    epoch = place // self.size
                    generator = torch.Generator().manual_seed(_hashed("epoch", self.seed, epoch))
                    order = torch.randperm(self.size, generator=generator).tolist()
                batch.append((place, order[place % self.size]))
            yield batch
            position += self.batch


class CellLoader:
    """Iterable over batches (lists of model inputs).

    Attributes:
        skipped: files that could not be used, one entry each time that one was met (they are also logged).
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.skipped: list[str] = []

    def __len__(self) -> int:
        """Batches of this process; only loaders with an end have a length."""
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict]]:
        """Batches.

        Raises:
            CorruptImageError: a file cannot be read or used and ``DATALOADER.SKIP_CORRUPT_IMAGES`` is off.
            DatasetError: no file can be used.
        """
        for samples in self.loader:
            for sample in samples:
                self._account(sample)
            batch = [sample.item for sample in samples if sample.item is not None]
            if batch:
                yield batch

    def _account(self, sample: "_Sample") -> None:
        """Log and count what was skipped on the way to a sample; raise where that is not allowed."""
        for file_name, reason in sample.failures:
            if sample.fatal:
                raise CorruptImageError(
                    file_name, f"{reason}. Repair or remove it, or set DATALOADER.SKIP_CORRUPT_IMAGES True"
                )
            if file_name not in self.skipped:
                logger.warning("Skipped %s: %s", file_name, reason)
            self.skipped.append(file_name)
        if sample.exhausted:
            file_name, reason = sample.failures[0]
            raise datasets.DatasetError(
                f"none of the {len(sample.failures)} images can be used; the first is {file_name}: {reason}"
            )


@dataclass(frozen=True)
class _Sample:
    """What comes from a worker; failures travel as values, as an exception would lose its type on the way."""

    item: dict | None
    failures: tuple[tuple[str, str], ...] = ()
    fatal: bool = False
    exhausted: bool = False


class _Samples(Dataset):
    """Mapped samples by index, or by (position, index) where everything random follows from (seed, position).

    With ``skip_corrupt`` and a seed or ``replace``, the next usable sample stands in for a corrupt one.
    """

    def __init__(
        self,
        records: Sequence[dict],
        mapper: Mapper,
        skip_corrupt: bool,
        seed: int | None = None,
        replace: bool = False,
    ) -> None:
        self.records = sequences.shared(records)
        self.mapper, self.skip_corrupt, self.seed = mapper, skip_corrupt, seed
        self.replace = replace or seed is not None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> _Sample:
        position, index = key if isinstance(key, tuple) else (key, key)
        failures = []
        for step in range(len(self.records) if self.replace else 1):
            record = self.records[(index + step) % len(self.records)]
            try:
                with _seeded(_hashed("sample", self.seed or 0, position)):
                    return _Sample(self.mapper(record), tuple(failures))
            except CorruptImageError as error:
                failures.append((error.file_name, error.reason))
            except OSError as error:  # gone or unreadable since the data set was loaded
                failures.append((str(record["file_name"]), f"it cannot be read ({error.strerror or error})"))
            if not self.skip_corrupt:
                return _Sample(None, tuple(failures), fatal=True)
        return _Sample(None, tuple(failures), exhausted=self.replace)


def _mapper(cfg: CfgNode, **options: bool) -> Mapper:
    """The mapper that INPUT.MAPPER names, all INPUT values checked here rather than at the first image."""
    if cfg.INPUT.MAPPER not in MAPPERS:
        raise ValueError(f"INPUT.MAPPER: {cfg.INPUT.MAPPER!r} is not one of {', '.join(MAPPERS)}")
    if len(cfg.INPUT.STRETCH_PERCENTILES):
        check_percentiles(cfg.INPUT.STRETCH_PERCENTILES)
    return MAPPERS[cfg.INPUT.MAPPER](cfg, **options)


def _data_loader(cfg: CfgNode, samples: _Samples, **sampling: object) -> DataLoader:
    """A loader with the config's number of workers, which draws nothing from the global random state."""
    return DataLoader(
        samples,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=list,
        worker_init_fn=_init_worker,
        generator=torch.Generator().manual_seed(0),
        **sampling,
    )


def _init_worker(_: int) -> None:
    """One thread a worker: there are as many workers as the user gives processors to loading."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _hashed(*parts: object) -> int:
    """A 63-bit number that follows from ``parts`` and looks random."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global generators, and leave them afterwards as they were before."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
