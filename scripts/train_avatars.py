"""Train and ship the avatars model. Kill it when you like: run again, it goes on where it was."""

from quality import attribute_rates
from shipping import train_and_ship

if __name__ == "__main__":
    train_and_ship(
        "avatars",
        "16 x 16 portraits drawn by a program (DiceBear pixel-art, CC0).",
        attribute_rates,
    )
