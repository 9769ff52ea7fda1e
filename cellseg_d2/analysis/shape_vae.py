"""Cell shape as a few latent numbers: a small variational autoencoder of aligned masks (Kingma and Welling 2014)."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import DatasetError, MissingDataError
from ..files import atomic_write, read_json, write_json
from .alignment import FIELD, SIDE

__all__ = ["ShapeVAE", "VAEOptions", "decode", "encode", "load_vae", "save_vae", "train_vae", "vae_loss"]

AT_ONCE = 4096  # shapes that are encoded together
Track = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class VAEOptions:
    """How the network is built and trained.

    Attributes:
        latent: numbers that a shape is described by.
        hidden: width of the two hidden layers on either side.
        beta: weight of the divergence; 1 is the variational bound itself, more asks for simpler codes.
        epochs, batch, rate: passes over the shapes, shapes a step, and the peak of the one-cycle learning rate (Adam).
        seed: of the first weights, the order of shapes and the noise.
    """

    latent: int = 4
    hidden: int = 60
    beta: float = 1.0
    epochs: int = 60
    batch: int = 64
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [key for key in ("latent", "hidden", "epochs", "batch") if getattr(self, key) < 1]
        wrong += [key for key in ("beta", "rate") if not getattr(self, key) > 0]
        if wrong:
            raise ValueError(f"{wrong[0]} is {getattr(self, wrong[0])}; it has to be positive")


class ShapeVAE(nn.Module):
    """Encoder q(z|x) = N(mean(x), diag exp(logvar(x))) and decoder p(x|z), a Bernoulli of each pixel.

    Args:
        options: ``latent`` L and ``hidden``; 290,000 parameters with the defaults.
    """

    def __init__(self, options: VAEOptions) -> None:
        super().__init__()
        pixels, hidden, latent = SIDE * SIDE, options.hidden, options.latent
        self.options = options
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, pixels),
            nn.Unflatten(1, (SIDE, SIDE)),
        )  # fmt: skip

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, SIDE, SIDE) of z = mean + exp(logvar / 2) * noise, and mean and logvar, (N, L) each.

        Args:
            images: (N, SIDE, SIDE) float32, 0..1.
            noise: (N, L) of N(0, 1).
        """
        mean, logvar = self.encoder(images).chunk(2, dim=1)
        return self.decoder(mean + (logvar / 2).exp() * noise), mean, logvar


def vae_loss(logits: Tensor, images: Tensor, mean: Tensor, logvar: Tensor, beta: float) -> Tensor:
    """The negative variational bound of a batch, mean over its N shapes.

    ``- sum over pixels of [x log p + (1 - x) log(1 - p)] + beta * KL``, p = sigmoid(logits), and
    ``KL(q || N(0, 1)) = 1/2 sum over latents of [mean^2 + exp(logvar) - 1 - logvar]``. Pixels x on the outline are
    shares between 0 and 1, for which the first term is the cross-entropy.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum()
    return (entropy + beta * divergence) / len(images)


def train_vae(images: np.ndarray, options: VAEOptions, track: Track = lambda items, title: items) -> ShapeVAE:
    """Train on aligned masks; the same shapes, options and number of threads give the same network on a CPU.

    The latents of the result are sorted: the one whose codes vary most comes first.

    Args:
        images: (N, SIDE, SIDE) float32, 0..1.
        track: wraps the epochs, to show progress.

    Raises:
        ValueError: another shape, values outside 0..1, or fewer than two shapes.
    """
    images = _checked(images)
    if len(images) < 2:
        raise ValueError(f"{len(images)} shape is too few to learn from")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = ShapeVAE(options)
    generator = torch.Generator().manual_seed(options.seed)
    optimiser = torch.optim.Adam(model.parameters(), options.rate)
    steps = options.epochs * -(-len(images) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, total_steps=max(steps, 2))
    for _ in track(range(options.epochs), "epochs"):
        for chosen in torch.randperm(len(images), generator=generator).split(options.batch):
            batch = images[chosen]
            noise = torch.randn(len(batch), options.latent, generator=generator)
            logits, mean, logvar = model(batch, noise)
            loss = vae_loss(logits, batch, mean, logvar, options.beta)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    _sort_latents(model, encode(model, images.numpy()).std(axis=0))
    return model.eval()


def encode(model: ShapeVAE, images: np.ndarray) -> np.ndarray:
    """(N, L) float32 codes, the means of q(z|x), of (N, SIDE, SIDE) aligned masks."""
    with torch.no_grad():
        parts = [model.encoder(part)[:, : model.options.latent] for part in _checked(images).split(AT_ONCE)]
    return torch.cat(parts).numpy()


def decode(model: ShapeVAE, codes: np.ndarray) -> np.ndarray:
    """(N, SIDE, SIDE) float32 probability of cell of (N, L) codes."""
    codes = torch.as_tensor(np.asarray(codes), dtype=torch.float32)
    if codes.ndim != 2 or codes.shape[1] != model.options.latent:
        raise ValueError(f"codes are (N, {model.options.latent}), these have the shape {tuple(codes.shape)}")
    with torch.no_grad():
        return torch.cat([model.decoder(part).sigmoid() for part in codes.split(AT_ONCE)]).numpy()


def save_vae(model: ShapeVAE, folder: str | Path) -> None:
    """Write ``vae.pth`` (the state dict) and ``vae.json`` (the options, side and field of the aligned masks)."""
    folder = Path(folder)
    atomic_write(folder / "vae.pth", lambda stream: torch.save(model.state_dict(), stream))
    write_json(folder / "vae.json", {"options": asdict(model.options), "side": SIDE, "field": FIELD}, indent=1)


def load_vae(folder: str | Path) -> ShapeVAE:
    """The network of :func:`save_vae`; nothing but tensors is read from its weights.

    Raises:
        MissingDataError: one of the two files is not there.
        DatasetError: they do not belong together, or are of masks that were aligned otherwise.
    """
    weights, options = Path(folder) / "vae.pth", Path(folder) / "vae.json"
    missing = next((file for file in (options, weights) if not file.is_file()), None)
    if missing:
        raise MissingDataError(f"{missing} is not there; vae.json and vae.pth belong together, see dataset.py shapes")
    settings = read_json(options)
    try:
        size = settings["side"], settings["field"]
        model = ShapeVAE(VAEOptions(**settings["options"]))
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DatasetError(f"{folder}: vae.json and vae.pth are not of one shape model ({error})") from error
    if size != (SIDE, FIELD):
        raise DatasetError(f"{folder}: its masks have side and field {size}, those of this version {(SIDE, FIELD)}")
    return model.eval()


def _checked(images: np.ndarray) -> Tensor:
    """Aligned masks as a tensor."""
    images = torch.as_tensor(np.asarray(images), dtype=torch.float32)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"aligned masks are (N, {SIDE}, {SIDE}), these have the shape {tuple(images.shape)}")
    if not ((images >= 0) & (images <= 1)).all():
        raise ValueError("aligned masks have values from 0 to 1")
    return images


def _sort_latents(model: ShapeVAE, spread: np.ndarray) -> None:
    """Sort the latents by the spread of their codes, largest first, in place; shapes stay as they are."""
    order = torch.from_numpy(np.argsort(-spread, kind="stable").copy())
    last, first = model.encoder[-1], model.decoder[0]
    with torch.no_grad():
        for parameter in (last.weight, last.bias):
            parameter.copy_(parameter[torch.cat([order, order + model.options.latent])])
        first.weight.copy_(first.weight[:, order])
