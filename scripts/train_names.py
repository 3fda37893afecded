"""Train and ship the names model. Kill it when you like: run again, it goes on where it was."""

from functools import partial

from shipping import train_and_ship
from string_quality import list_quality

from alignflow.data import names

if __name__ == "__main__":
    train_and_ship(
        "names",
        "The 1,000 most frequent American family names, weighted by frequency.",
        partial(list_quality, name="names", strings=names()),
    )
