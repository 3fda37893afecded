"""The first sample of a chain: one of the base, by the flow map."""

from alignflow.graph import Node

__all__ = ["FirstSample"]


class FirstSample(Node):
    """The endpoint of the noise becomes the chain's sample; the noise itself is its source."""

    reads = ("state", "endpoint", "endpoint_reward")
    optional = ("value_gradient",)
    writes = ("state", "reward", "source")

    def forward(self, tensordict):
        source, endpoint, reward = (self.read(tensordict, key) for key in self.reads)
        gradient = self.read(tensordict, "value_gradient")
        if gradient is not None:
            self.write(tensordict, source_gradient=gradient)
        return self.write(tensordict, source=source, state=endpoint[:, 0], reward=reward[:, 0])
