"""The denoiser of a stored data set, against the two matrix products that it cannot do without.

    python scripts/bench/empirical_posterior.py [--threads 2]

For B states and N rows these are states @ data.T and weights @ data. Peers are the formula in plain
torch, which holds all B x N weights, and the same class reading bytes, and at a late time, where it
works in float64.
"""

import argparse
from collections.abc import Callable

import torch
from page import write_page
from side_by_side import compare
from torch import Tensor

from alignflow.targets import Empirical

ROWS, WIDTH = 60_000, 784
EARLY, LATE = 0.5, 0.95
CHUNKS = (256, 1024, 4096, 16_384)
PRODUCTS = "two products"


def products(x: Tensor, data: Tensor) -> Callable[[], object]:
    """The two matrix products alone."""
    weight = torch.rand(len(x), len(data), dtype=x.dtype)
    return lambda: (x @ data.T, weight @ data)


def full_softmax(x: Tensor, data: Tensor, t: float) -> Callable[[], Tensor]:
    """The formula as it stands, with the square expanded; the squares of the rows are given."""
    squares = data.square().sum(1)

    def call():
        logits = (t * (x @ data.T) - t**2 / 2 * squares) / (1 - t) ** 2
        return logits.softmax(1) @ data

    return call


def denoisers(data: Tensor, pixels: Tensor, batch: int) -> dict[str, Callable[[], object]]:
    """Calls by name on one batch of states."""
    x = torch.randn(batch, WIDTH)
    stored, images = Empirical(data), Empirical(pixels)
    return {
        PRODUCTS: products(x, data),
        "alignflow": lambda: stored.denoiser(x, EARLY),
        "alignflow, data as bytes": lambda: images.denoiser(x, EARLY),
        "full softmax": full_softmax(x, data, EARLY),
    }


def chunks(data: Tensor, batch: int) -> dict[str, Callable[[], object]]:
    """The denoiser by the number of rows read at once."""
    x = torch.randn(batch, WIDTH)

    def call(chunk: int) -> Callable[[], Tensor]:
        stored = Empirical(data, chunk=chunk)
        return lambda: stored.denoiser(x, EARLY)

    return {PRODUCTS: products(x, data)} | {f"chunk {chunk}": call(chunk) for chunk in CHUNKS}


def late(data: Tensor, batch: int) -> dict[str, Callable[[], object]]:
    """The denoiser in float64."""
    x, stored = torch.randn(batch, WIDTH), Empirical(data)
    return {
        f"{PRODUCTS} in float64": products(x.double(), data.double()),
        f"{PRODUCTS} in float32": products(x, data),
        "alignflow": lambda: stored.denoiser(x, LATE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    pixels = torch.randint(256, (ROWS, WIDTH), dtype=torch.uint8)
    data = pixels / 127.5 - 1
    about = (
        f"The denoiser over {ROWS:,} rows of {WIDTH} floats. Calls alternate in one process; a "
        "ratio is of one round, and its inverse is the fraction of the products' rate. "
        "On a busy machine the milliseconds mean little, the ratios hold. "
        f"Time is {EARLY} where float32 holds the posterior, {LATE} where float64 has to."
    )
    sections = [
        compare("64 states", PRODUCTS, denoisers(data, pixels, 64), 11),
        compare("256 states", PRODUCTS, denoisers(data, pixels, 256), 7),
        compare("64 states, by rows read at once", PRODUCTS, chunks(data, 64), 7),
        compare("64 states at a late time", f"{PRODUCTS} in float64", late(data, 64), 7),
    ]
    write_page("empirical_posterior", "The posterior of a stored data set", about, *sections)


if __name__ == "__main__":
    main()
