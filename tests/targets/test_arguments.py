"""What targets and data sets are made of is checked where it enters, and named."""

import numpy as np
import pytest
import torch

from alignflow import data, targets
from alignflow.coordinates import from_relative
from alignflow.data import AugmentedImages, Images, deform
from alignflow.targets import (
    Checkerboard,
    Empirical,
    GaussianMixture,
    GridDensity,
    Quadratic,
    ring,
    ring_reward,
)

NAN = float("nan")
PIXELS = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
X = torch.zeros(2, 2)

REFUSED = {
    "ring modes": (lambda: ring(modes=2.5), "modes must be a whole number .*, got 2.5"),
    "ring radius": (lambda: ring(radius=-1), "radius must be a positive number, got -1"),
    "bump's center": (lambda: targets.bump_reward("abc"), "center must be a pair of .*, got 'abc'"),
    "labels of a text": (
        lambda: Images(PIXELS, labels="abc"),
        "labels must be a mapping .*, got 'abc'",
    ),
    "log-weights": (lambda: Empirical(X, log_weight=3), r"log_weight must be .*, got tensor\(3\)"),
    "ring variance": (lambda: ring(variance=-1), "variance must be a positive number, got -1"),
    "seed": (lambda: targets.mixture(2, seed=-1), "seed must be a whole number .*, got -1"),
    "bump": (lambda: targets.bump_reward((NAN, 0)), "each number of center must be a finite"),
    "likelihood": (lambda: targets.inverse_problem_reward(std=0), "std must be a pos"),
    "cycloid": (lambda: targets.cycloid_reward(frequency=1.5), "frequency must be a whole number"),
    "cluster": (lambda: targets.lennard_jones(1.5), "particles must be a whole number"),
    "cluster's name": (lambda: targets.energy_reward("dw5"), "did you mean 'dw4'"),
    "mixture of a text": (lambda: GaussianMixture("a", X, X), "weights must be a tensor, or an"),
    "tolerance": (
        lambda: GaussianMixture(torch.ones(1), X[:1], torch.eye(2)[None], tolerance=-1),
        "tolerance must be a positive number, got -1",
    ),
    "strength": (
        lambda: ring().tilted(ring_reward(), NAN),
        "strength must be a finite .*, got nan",
    ),
    "strength of a value": (
        lambda: ring().value(X, 0.5, lambda x: x.sum(1), "2"),
        "strength must be a finite number, got '2'",
    ),
    "draws": (lambda: ring().posterior_sample(X, 0.5, NAN), "k must be a whole number .*, got nan"),
    "samples": (lambda: ring().sample("4"), "n must be a whole number of at least 1, got '4'"),
    "a seed": (lambda: ring().sample(4, seed=1), "sample takes no seed: say generator=1"),
    "data of a text": (lambda: Empirical("digits"), "data must be a tensor, or an array"),
    "data of one row": (lambda: Empirical(torch.zeros(4)), r"rows of states \(N, \*E\)"),
    "chunk": (lambda: Empirical(X, chunk=NAN), "chunk must be a whole number .*, got nan"),
    "precision": (lambda: Quadratic([0.0, 1.0], NAN), "precision must be finite"),
    "points": (
        lambda: GridDensity(lambda x: x.sum(1), [0.0], [1.0], points=0),
        "points must be a whole number of at least 1, got 0",
    ),
    "corners": (lambda: GridDensity(lambda x: x.sum(1), [0.0], [[1.0]]), r"vectors \(D,\) both"),
    "board": (lambda: Checkerboard(squares=NAN), "squares must be a whole number"),
    "board's samples": (lambda: Checkerboard().sample(0), "n must be a whole number .*, got 0"),
    "pixels of floats": (lambda: Images(PIXELS.float()), r"pixels must be uint8 \(N, C, H, W\)"),
    "pixels of an array": (lambda: Images(PIXELS.numpy()), "got ndarray of shape"),
    "no pixels": (lambda: Images(PIXELS[:0]), "with N >= 1"),
    "labels": (lambda: Images(PIXELS, {"a": torch.zeros(3)}), r"label 'a' must be integers \(4,\)"),
    "condition": (
        lambda: Images(PIXELS, {"cat": torch.zeros(4)}, condition="cats"),
        "condition must be one of cat, got 'cats'; did you mean 'cat'",
    ),
    "drawn images": (lambda: Images(PIXELS).sample(1.5), "n must be a whole number"),
    "augment": (lambda: data.digits(augment="yes"), "augment must be true or false, got 'yes'"),
    "rotation": (
        lambda: deform(torch.zeros(2, 1, 4, 4), rotation=-1),
        "rotation must be a finite number of at least 0, got -1",
    ),
    "deformed bytes": (lambda: deform(PIXELS), r"images must be floats \(N, C, H, W\)"),
    "portraits": (lambda: data.avatars(n=2.5), "n must be a whole number .*, got 2.5"),
    "folder": (lambda: data.image_folder(None, 8), "path must be that of a folder, got None"),
    "particles": (lambda: from_relative(X), r"clusters must be of shape \(N, n, D\)"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_lists_arrays_and_seeds_are_accepted():
    mixture = GaussianMixture([1.0, 1.0], [[0.0], [2.0]], np.ones((2, 1, 1), dtype=np.float32))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(mixture.sample(8, generator=3), mixture.sample(8, generator=generator))
    assert Empirical(np.zeros((4, 2), dtype=np.float32)).sample(3.0, generator=0).shape == (3, 2)
    images = AugmentedImages(PIXELS, augment=lambda states, generator: states)
    assert images.sample(2, generator=1)["data"].shape == (2, 1, 2, 2)
