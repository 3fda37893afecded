"""Train and ship the molecules model. Kill it when you like: run again, it goes on where it was."""

from functools import partial

from shipping import train_and_ship
from string_quality import molecule_quality

from alignflow.data import molecules

if __name__ == "__main__":
    train_and_ship(
        "molecules",
        "Drug-like molecules of MOSES as SELFIES symbols.",
        partial(molecule_quality, held_out=molecules("test")),
    )
