"""Train the draws of the shipped stochastic flow map of portraits further, and ship it again.

Goes on from what `train_avatars_posterior.py` shipped; killed, from where it was.
"""

from quality import redrawn
from shipping import train_and_ship

if __name__ == "__main__":
    train_and_ship(
        "avatars_posterior",
        "Portraits, 16 x 16, in one forward from noise, or from noise and what a noisy state says.",
        redrawn,
        stage="learn_posterior",
        experiment="train_avatars_posterior_draws",
    )
