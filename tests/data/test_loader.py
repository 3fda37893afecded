"""Data larger than memory: rows that workers read, and rows of a mapped file."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from alignflow.data import Images, Loader, batches, memory_mapped
from alignflow.distillation import pretrain
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import Empirical

POINTS = torch.arange(22.0).view(11, 2)
POLICY = FlowMapPolicy(MLP(2, 8, 1, classes=3), (2,))
LABELED = TensorDataset(POINTS, torch.arange(11) % 3)


class Jittered(Dataset):
    """Each item is moved at random, by each of three sources of random numbers."""

    def __len__(self):
        return len(POINTS)

    def __getitem__(self, i):
        moved = POINTS[i] + torch.randn(2) + np.random.normal() + random.random()
        return moved.float(), i % 3


class Texts(Jittered):
    def __getitem__(self, i):
        return POINTS[i], f"a point of row {i}"


@pytest.mark.parametrize("dataset", [LABELED, Jittered()], ids=["plain", "augmented"])
@pytest.mark.parametrize("n", [1, 7])
def test_a_batch_does_not_depend_on_the_number_of_workers(dataset, n):
    one, two = (Loader(dataset, workers).sample(n, generator=3) for workers in (1, 2))
    assert one["data"].shape == (n, 2)
    assert torch.equal(one["data"], two["data"])
    assert torch.equal(one["condition"], two["condition"])


def test_rows_are_those_that_a_plain_data_set_gives_with_their_labels():
    drawn = Loader(LABELED, 2).sample(9, generator=3)
    plain = batches(LABELED, 9)(torch.Generator().manual_seed(3))
    assert torch.equal(drawn["data"], plain["data"])
    assert torch.equal(drawn["condition"], plain["condition"])
    texts = Loader(Texts(), 2).sample(9, generator=3)
    assert list(texts["condition"]) == [
        f"a point of row {int(x) // 2}" for x in drawn["data"][:, 0]
    ]


def test_successive_batches_are_of_other_rows_and_leave_global_randomness_alone(generator):
    loader, before = Loader(Jittered(), 2), torch.random.get_rng_state()
    first, second = (loader.sample(50, generator)["data"] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


def train(folder, **options):
    options = {"steps": 6, "batch_size": 4, "checkpoint_every": 2, "folder": folder, **options}
    return pretrain(POLICY, Loader(Jittered(), 2), "flow_matching", generator=5, **options)


def test_a_training_that_was_cut_continues_with_the_same_batches(tmp_path):
    def cut(step, model):
        if step == 4:
            raise RuntimeError("cut")
        return {}

    with pytest.raises(RuntimeError, match="cut"):
        train(tmp_path / "cut", evaluate=cut)
    resumed, whole = train(tmp_path / "cut").state_dict(), train(tmp_path / "whole").state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_rows_of_a_file_larger_than_memory_are_drawn(tmp_path, generator):
    path, width = tmp_path / "rows.npy", 2**20
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(2**16, width))
    assert path.stat().st_size > 2**38  # sparse: nothing of it is on the disk
    batch = batches(memory_mapped(path), 3)(generator)
    assert batch["data"].shape == (3, width)
    mapped = np.load(path, mmap_mode="r")
    assert batches(mapped, 2)(generator)["data"].shape == (2, width)


def test_a_mapped_file_is_data_as_a_tensor_is(tmp_path):
    pixels = torch.arange(5 * 3 * 4 * 4).view(5, 3, 4, 4).byte()
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    mapped = memory_mapped(tmp_path / "pixels.npy")
    assert torch.equal(
        Images(mapped).sample(4, generator=1)["data"], Images(pixels).sample(4, generator=1)["data"]
    )
    state = torch.zeros(2, 3, 4, 4)
    assert torch.equal(
        Empirical(mapped).denoiser(state, 0.5), Empirical(pixels).denoiser(state, 0.5)
    )


def test_what_is_no_data_set_or_no_file_of_numbers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dataset must be a map-style data set, .*, got 3"):
        Loader(3)
    with pytest.raises(ValueError, match="must have a row and is empty"):
        Loader([])
    with pytest.raises(ValueError, match="workers must be a whole number of at least 1, got 0"):
        Loader(LABELED, workers=0)
    np.save(tmp_path / "texts.npy", np.array(["a", "b"]))
    with pytest.raises(ValueError, match="must hold numbers, got <U1"):
        memory_mapped(tmp_path / "texts.npy")


def test_an_item_that_cannot_be_read_is_an_error_here(generator):
    class Damaged(Jittered):
        def __getitem__(self, i):
            raise OSError("image 3 is damaged")

    with pytest.raises(OSError, match="image 3 is damaged"):
        Loader(Damaged(), 2).sample(4, generator)
