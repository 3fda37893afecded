"""Train and ship the digits model. Kill it when you like: run again, it goes on where it was."""

from quality import class_accuracy
from shipping import train_and_ship

from alignflow.data import digits

if __name__ == "__main__":
    train_and_ship(
        "digits",
        "Handwritten digits, 28 x 28; the class is an optional condition.",
        lambda policy: class_accuracy(policy, "digits", digits("judge_test")),
    )
