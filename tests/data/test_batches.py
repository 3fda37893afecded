"""Batches: data of every kind, in the policy's precision, and what does not fit the policy."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from alignflow.data import Images, batches, token_batches
from alignflow.distillation import pretrain
from alignflow.policies import MLP, FlowMapPolicy, TokenDiT

POINTS = torch.arange(10.0).view(5, 2)
POLICY = FlowMapPolicy(MLP(2, 8, 1, classes=3), (2,))
IMAGES = FlowMapPolicy(torch.nn.Identity(), (3, 4, 6))

ACCEPTED = {
    "array": POINTS.numpy(),
    "array of float64": POINTS.double().numpy(),
    "tensor of float64": POINTS.double(),
    "half": POINTS.half(),
    "list of tensors": list(POINTS),
    "list of arrays": list(POINTS.numpy()),
    "list of lists": POINTS.tolist(),
    "TensorDict": TensorDict({"data": POINTS}, [5]),
    "callable of arrays": lambda n: np.zeros((n, 2)),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_states_of_every_kind_come_in_the_precision_of_the_policy(data, generator):
    batch = batches(data, 7, POLICY)(generator)
    assert batch["data"].shape == (7, 2) and batch["data"].dtype == torch.float32
    in_double = FlowMapPolicy(MLP(2, 8, 1).double(), (2,))
    assert batches(data, 7, in_double)(generator)["data"].dtype == torch.float64


LABELED = {
    "pairs": [(point, i % 3) for i, point in enumerate(POINTS)],
    "pairs in lists": [[point, i % 3] for i, point in enumerate(POINTS.numpy())],
    "data set": TensorDataset(POINTS, torch.arange(5) % 3),
    "TensorDict": TensorDict({"data": POINTS, "condition": torch.arange(5) % 3}, [5]),
    "call": lambda n: (POINTS[:n], (torch.arange(5) % 3)[:n]),
}


@pytest.mark.parametrize("data", LABELED.values(), ids=LABELED)
def test_labels_stay_with_their_states(data, generator):
    batch = batches(data, 4, POLICY)(generator)
    assert torch.equal(batch["condition"], (batch["data"][:, 0] / 2).long() % 3)


def test_texts_are_labels_too(generator):
    batch = batches([(POINTS[0], "a cat"), (POINTS[0], "a cat")], 3)(generator)
    assert list(batch["condition"]) == ["a cat"] * 3


class Endless(IterableDataset):
    def __iter__(self):
        return iter(POINTS)


class Mappings(TensorDataset):
    def __getitem__(self, i):
        return {"image": POINTS[i]}


PIXELS = torch.zeros(5, 3, 4, 6, dtype=torch.uint8)
REFUSED = {
    "another shape": (POLICY, torch.zeros(5, 3), r"states are of shape \(2,\), .* shape \(3,\)$"),
    "larger images": (IMAGES, torch.zeros(5, 3, 8, 12), r"\(3, 4, 6\), .* \(3, 8, 12\)$"),
    "channels last": (IMAGES, torch.zeros(5, 4, 6, 3), r"channels come first, data\.permute"),
    "flat": (IMAGES, torch.zeros(5, 72), r"data\.reshape\(-1, 3, 4, 6\)"),
    "bytes": (IMAGES, PIXELS, r"must be floats, got data of torch\.uint8.*Images\(pixels\)"),
    "whole numbers": (POLICY, torch.zeros(5, 2, dtype=torch.int64), "must be floats"),
    "NaN": (POLICY, torch.full((5, 2), torch.nan), "must be finite"),
    "infinite": (POLICY, torch.full((5, 2), torch.inf), "must be finite"),
    "a label too many": (POLICY, [(POINTS[0], 3)], "labels must be whole numbers from 0 to 2"),
    "fewer rows": (POLICY, lambda n: POINTS[:2], "must give 4 rows when 4 are asked for, got 2"),
    "no data": (POLICY, TensorDict({"image": POINTS}, [5]), "must hold `data`, got only image"),
    "ragged": (POLICY, [torch.zeros(2), torch.zeros(3)], "all states of one shape"),
    "mappings": (POLICY, Mappings(POINTS), r"a state, or a pair \(state, label\).*first is"),
    "a number": (POLICY, torch.zeros(()), r"data must be a tensor .*, got tensor\(0.\)"),
    "pixels of another size": (POLICY, Images(PIXELS), r"\(2,\), the data's of shape \(3, 4, 6\)"),
}


@pytest.mark.parametrize(("policy", "data", "message"), REFUSED.values(), ids=REFUSED)
def test_data_that_does_not_fit_the_policy_is_refused_at_the_first_batch(policy, data, message):
    with pytest.raises(ValueError, match=message):
        batches(data, 4, policy)(torch.Generator().manual_seed(0))


UNKNOWN = {
    "a name": ("avatars", "got 'avatars'"),
    "a mapping": ({"data": POINTS}, "a TensorDict of `data`"),
    "a loader": (DataLoader(TensorDataset(POINTS)), r"a DataLoader: .*loader\.dataset"),
    "a stream": (Endless(), "a Endless: .*a callable that takes the next n rows"),
    "a class": (Images, "got <class"),
}


@pytest.mark.parametrize(("data", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_another_kind_of_data_is_refused_with_the_way_out(data, message):
    with pytest.raises(TypeError, match=message):
        batches(data, 4)


def test_pretraining_refuses_data_of_another_shape_than_the_policy_s():
    with pytest.raises(ValueError, match=r"\(2,\), the data's of shape \(3,\)"):
        pretrain(POLICY, torch.zeros(5, 3), steps=1, batch_size=4)
    with pytest.raises(ValueError, match="pretrain takes no seed: say generator=3"):
        pretrain(POLICY, POINTS, steps=1, seed=3)


def test_tokens_are_states_of_a_simplex_and_stay_tokens_where_asked():
    policy = FlowMapPolicy(TokenDiT(2, 4, 16, 1, 2), (2, 4), parametrization="simplex")
    tokens = torch.tensor([[0, 3]] * 5).int()
    (states,) = batches(tokens, 1, policy)(torch.Generator())["data"]
    assert states.dtype == policy.dtype and states.argmax(-1).tolist() == [0, 3]
    stayed = token_batches(tokens, 1, policy)(torch.Generator())["data"]
    assert stayed.dtype == torch.int64 and stayed.tolist() == [[0, 3]]
    for draw in (batches, token_batches):
        with pytest.raises(ValueError, match=r"shape \(2, 4\), the data's of shape \(1, 4\)"):
            draw(tokens[:, 1:], 1, policy)(torch.Generator())
        with pytest.raises(ValueError, match="tokens must be whole numbers from 0 to 3, got some"):
            draw(tokens + 1, 1, policy)(torch.Generator())
