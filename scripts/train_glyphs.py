"""Train and ship the glyphs model. Kill it when you like: run again, it goes on where it was."""

from quality import class_accuracy
from shipping import train_and_ship

from alignflow.data import glyphs

if __name__ == "__main__":
    train_and_ship(
        "glyphs",
        "Letters and numerals of open fonts, 28 x 28; the character is an optional condition.",
        lambda policy: class_accuracy(policy, "glyphs", glyphs(2000, first=300_000)),
    )
