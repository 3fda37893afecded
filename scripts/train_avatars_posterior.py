"""Train and ship the stochastic flow map of portraits; killed, it goes on where it was."""

from quality import value_correlation
from shipping import train_and_ship

if __name__ == "__main__":
    train_and_ship(
        "avatars_posterior",
        "Portraits, 16 x 16, in one forward from noise, or from noise and what a noisy state says.",
        value_correlation,
        stage="learn_posterior",
    )
