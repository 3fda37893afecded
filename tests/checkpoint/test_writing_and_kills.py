"""Kills, readers and writers at the same time: a folder is always one whole save."""

import multiprocessing
import os
import random
import signal
import time

import pytest
import torch

from alignflow.checkpoint import is_saved, load_folder, save_folder
from alignflow.checkpoint import writing as module

FILES = {"facts.json", "tensors.safetensors"}
KILLS, SAVES = 60, 60
processes = multiprocessing.get_context("fork")


def save(folder, number, size=1000):
    save_folder(folder, {"a": torch.full((size,), float(number))}, {"number": number})


def check_whole(folder):
    tensors, facts = load_folder(folder)
    assert (tensors["a"] == facts["number"]).all()
    return facts["number"]


def names(folder):
    return {path.name for path in folder.iterdir()}


def save_and_die(folder, number, calls):
    """Save, and die at the n-th call that changes the disk."""
    left = [calls]

    def dying(function):
        def called(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return function(*arguments, **options)

        return called

    for owner, name in ((module.os, "replace"), (module.os, "fsync"), (module.Path, "unlink")):
        setattr(owner, name, dying(getattr(owner, name)))
    save(folder, number)


@pytest.mark.parametrize("first", [True, False])
def test_a_kill_at_any_change_of_the_disk_leaves_the_old_folder_or_the_new_one(first, tmp_path):
    found: list[int] = []
    exits: list[int | None] = [9]
    while exits[-1] == 9:
        calls = len(found)
        folder = tmp_path / str(calls)
        if not first:
            save(folder, 1)
        child = processes.Process(target=save_and_die, args=(folder, 2, calls))
        child.start()
        child.join()
        exits.append(child.exitcode)
        found.append(check_whole(folder) if is_saved(folder) else 0)
        # twice, the second time over what the kill left
        for number in (3, 4):
            save(folder, number)
            assert check_whole(folder) == number and names(folder) == FILES
    assert exits[-1] == 0 and len(found) > 5
    assert found == sorted(found) and set(found) == {0 if first else 1, 2}
    assert names(tmp_path) == {str(calls) for calls in range(len(found))}


def save_for_ever(folder):
    for number in range(10**9):
        save(folder, number, size=100_000)


def test_kills_at_random_moments_leave_whole_folders_and_nothing_for_the_next_save(tmp_path):
    moments, folder = random.Random(0), tmp_path / "model"
    save(folder, 0)
    for _ in range(KILLS):
        child = processes.Process(target=save_for_ever, args=(folder,))
        child.start()
        time.sleep(moments.uniform(0.0, 0.03))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        check_whole(folder)
    save(folder, 7)
    assert check_whole(folder) == 7
    assert names(folder) == FILES and names(tmp_path) == {"model"}


def save_often(folder, first):
    for number in range(first, first + SAVES):
        save(folder, number)


def test_readers_beside_two_writers_always_find_one_whole_save(tmp_path):
    folder, reads = tmp_path / "model", 0
    save(folder, 0)
    writers = [processes.Process(target=save_often, args=(folder, n)) for n in (1000, 2000)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        check_whole(folder)
        reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0] and reads > SAVES
    assert check_whole(folder) in (1000 + SAVES - 1, 2000 + SAVES - 1)
    assert names(folder) == FILES and names(tmp_path) == {"model"}
