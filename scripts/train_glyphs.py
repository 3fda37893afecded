"""Train and ship the glyphs model. Kill it when you like: run again, it goes on where it was."""

from shipping import train_and_ship

if __name__ == "__main__":
    train_and_ship(
        "glyphs",
        "Letters and digits of open fonts, 28 x 28; the character is an optional condition.",
    )
