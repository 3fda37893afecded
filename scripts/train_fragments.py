"""Train and ship the fragments model. Kill it when you like: run again, it goes on where it was."""

from functools import partial

from shipping import train_and_ship
from string_quality import list_quality

from alignflow.data import fragments

if __name__ == "__main__":
    train_and_ship(
        "fragments",
        "2,020 building blocks of drug-like molecules as SELFIES symbols, weighted by count.",
        partial(list_quality, name="fragments", strings=fragments()),
    )
