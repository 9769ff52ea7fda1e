"""The shape model on families of ellipses, where one number says everything; the linear reference; interpolation."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cellseg_d2.analysis.alignment import SIDE, align
from cellseg_d2.analysis.features import shape_descriptors
from cellseg_d2.analysis.shape_space import between, fit_linear, held_out_tracks, interpolate, overlap
from cellseg_d2.analysis.shape_vae import (
    ShapeVAE,
    VAEOptions,
    decode,
    encode,
    load_vae,
    save_vae,
    train_vae,
    vae_loss,
)  # fmt: skip
from cellseg_d2.errors import DatasetError, MissingDataError

FEW = VAEOptions(latent=2, hidden=8, epochs=2)


def ellipse(aspect: float, area: float) -> np.ndarray:
    long, short = (area * aspect / np.pi) ** 0.5, (area / aspect / np.pi) ** 0.5
    y, x = np.mgrid[: int(2 * short + 6), : int(2 * long + 6)]
    return ((x - x.mean()) / long) ** 2 + ((y - y.mean()) / short) ** 2 <= 1


@pytest.fixture(scope="module")
def family():
    """Aligned ellipses of aspects 1.2 to 5 and their aspects."""
    rng = np.random.default_rng(0)
    aspects = rng.uniform(1.2, 5, 250)
    return np.stack([align(ellipse(a, rng.uniform(300, 900))).image for a in aspects]), aspects


@pytest.fixture(scope="module")
def trained(family):
    """A model of four fifths of them, and which are held out."""
    torch.set_num_threads(1)
    held = held_out_tracks(np.arange(250), seed=0)
    return train_vae(family[0][~held], VAEOptions(latent=2, epochs=60, batch=16)), held


def test_held_out_ellipses_come_back(family, trained):
    (images, aspects), (model, held) = family, trained
    codes = encode(model, images[held])
    assert held.sum() == 50 and overlap(decode(model, codes), images[held]).mean() > 0.9
    assert abs(spearmanr(codes[:, 0], aspects[held])[0]) > 0.9  # the latent that varies most comes first
    assert codes[:, 0].std() > codes[:, 1].std()


def test_shapes_between_two_ellipses(family, trained):
    images, aspects = family
    codes = encode(trained[0], images)[[aspects.argmin(), aspects.argmax()]]
    line = interpolate(trained[0], *codes, 7)
    assert line.shape == (7, SIDE, SIDE) and line.dtype == bool
    found = [shape_descriptors(mask)["aspect_ratio"] for mask in line]
    assert (np.diff(found) >= 0).all() and found[0] < 1.6 and found[-1] > 4 and len(set(found)) > 4


def test_cells_between_two_cells(trained):
    cells = between(trained[0], ellipse(1.3, 400), ellipse(4.5, 1600), 5)
    assert [cell.sum() for cell in cells] == pytest.approx(np.geomspace(400, 1600, 5), rel=0.05)
    assert all(cell.dtype == bool and cell.ndim == 2 for cell in cells)
    with pytest.raises(ValueError, match="1 steps"):
        between(trained[0], ellipse(1.3, 400), ellipse(4.5, 1600), 1)


def test_same_seed_same_codes(family):
    state = torch.random.get_rng_state()
    codes = [encode(train_vae(family[0][:80], options), family[0]) for options in (FEW, FEW, VAEOptions(2, 8, seed=1))]
    assert np.array_equal(codes[0], codes[1]) and not np.allclose(codes[0], codes[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_loss_by_hand():
    logits, images = torch.zeros(2, SIDE, SIDE), torch.rand(2, SIDE, SIDE)
    mean, logvar = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [np.log(4.0)]], dtype=torch.float32)
    entropy, divergence = SIDE**2 * np.log(2), (0.5 + 0.5 * (9 + 4 - 1 - np.log(4))) / 2
    assert vae_loss(logits, images, mean, logvar, 2.0).item() == pytest.approx(entropy + 2 * divergence, rel=1e-5)


def test_size_of_the_model():
    assert 100_000 < sum(p.numel() for p in ShapeVAE(VAEOptions()).parameters()) < 300_000


def test_saved_and_loaded(family, tmp_path):
    model = train_vae(family[0][:40], FEW)
    save_vae(model, tmp_path)
    again = load_vae(tmp_path)
    assert again.options == FEW and np.array_equal(encode(again, family[0]), encode(model, family[0]))
    settings = json.loads((tmp_path / "vae.json").read_text())
    wrong = {"have side and field": {"side": 32}, "not of one shape model": {"options": {"latent": 3}}}
    for words, change in wrong.items():
        (tmp_path / "vae.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(DatasetError, match=words):
            load_vae(tmp_path)
    (tmp_path / "vae.pth").unlink()
    with pytest.raises(MissingDataError, match="belong together"):
        load_vae(tmp_path)


def test_linear_reference(family):
    rng = np.random.default_rng(0)
    images = rng.random((3, 1)) * rng.random((1, 64)) + rng.random(64)
    linear = fit_linear(images.reshape(3, 8, 8), 1)
    assert linear.rebuilt(images.reshape(3, 8, 8)) == pytest.approx(images.reshape(3, 8, 8))
    assert linear.shares == pytest.approx([1])
    shares = fit_linear(family[0], 3).shares
    assert (np.diff(shares) <= 0).all() and shares.sum() < 1


def test_tracks_are_held_out_whole():
    tracks = np.random.default_rng(0).integers(0, 30, 400)
    held = held_out_tracks(tracks, seed=3)
    assert not set(tracks[held]) & set(tracks[~held]) and len(set(tracks[held])) == 6
    assert np.array_equal(held, held_out_tracks(tracks, seed=3))
    assert held_out_tracks(np.array(["a", "b"]), 0).sum() == 1
    with pytest.raises(ValueError, match="1 track"):
        held_out_tracks(np.zeros(5), 0)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((5, 20, 20)), r"are \(N, 48, 48\)"),
        (np.full((5, SIDE, SIDE), 255.0), "from 0 to 1"),
        (np.full((5, SIDE, SIDE), np.nan), "from 0 to 1"),
        (np.zeros((1, SIDE, SIDE)), "too few"),
    ],
)
def test_masks_that_cannot_be_learned_from(images, words):
    with pytest.raises(ValueError, match=words):
        train_vae(images, FEW)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="latent is 0"):
        VAEOptions(latent=0)
    with pytest.raises(ValueError, match="beta is"):
        VAEOptions(beta=float("nan"))
    with pytest.raises(ValueError, match=r"codes are \(N, 2\)"):
        decode(ShapeVAE(FEW), np.zeros((1, 3)))
