"""The cache of drawn images: whole, or drawn anew."""

import random
import warnings

import numpy as np
import pytest
import torch

from alignflow.data.drawing import drawn

NUMBERS = range(3, 9)


def draw(number):
    return np.full((1, 2, 2), number, dtype=np.uint8), np.uint8(number % 2)


def load(path):
    return drawn(path, draw, NUMBERS, ("pixels", "odd"))


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "cache" / "some-3-6.npz"
    load(path)
    return path


def check_is_drawn(fields):
    pixels, odd = fields
    assert torch.equal(pixels[:, 0, 0, 0], torch.arange(3, 9, dtype=torch.uint8))
    assert torch.equal(odd, torch.arange(3, 9, dtype=torch.uint8) % 2)


def test_what_is_drawn_is_drawn_once(cache):
    check_is_drawn(drawn(cache, lambda number: pytest.fail("again"), NUMBERS, ("pixels", "odd")))


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_cache_is_drawn_anew_and_said_so(keep, cache):
    cache.write_bytes(cache.read_bytes()[:keep])
    with pytest.warns(UserWarning, match=f"{cache} is damaged and drawn anew"):
        check_is_drawn(load(cache))
    check_is_drawn(drawn(cache, lambda number: pytest.fail("again"), NUMBERS, ("pixels", "odd")))


@pytest.mark.parametrize(("rows", "name"), [(2, "odd"), (6, "even")])
def test_a_cache_of_another_number_of_rows_or_other_fields_is_drawn_anew(rows, name, cache):
    fields = {"pixels": np.zeros((rows, 1, 2, 2)), name: np.zeros(rows)}
    np.savez_compressed(cache, allow_pickle=False, **fields)
    with pytest.warns(UserWarning, match="damaged"):
        check_is_drawn(load(cache))


def test_any_flipped_bit_of_a_cache_changes_nothing_that_is_read(cache):
    chance, content = random.Random(0), cache.read_bytes()
    for _ in range(300):
        changed = bytearray(content)
        place = chance.randrange(8 * len(content))
        changed[place // 8] ^= 1 << place % 8
        cache.write_bytes(changed)
        with warnings.catch_warnings(action="ignore"):
            check_is_drawn(load(cache))


def test_what_a_kill_left_of_a_cache_is_removed_by_the_next_that_writes_it(cache):
    left = [cache.with_name(f".{number}-{cache.name}") for number in (1, 99)]
    mine = [cache.with_name(f".mine-{cache.name}"), cache.with_name(".1-other.npz")]
    for path in (*left, *mine):
        path.write_text("half")
    cache.unlink()
    check_is_drawn(load(cache))
    assert sorted(cache.parent.iterdir()) == sorted([cache, *mine])
