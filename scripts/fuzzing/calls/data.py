"""Data sets, and the loader of those that are larger than memory."""

from .. import values as v
from .call import Call, valid

__all__ = ["calls"]


def calls() -> list[Call]:
    """Of data."""
    pictures = "torch.zeros(4, 1, 8, 8, dtype=torch.uint8)"
    return [
        valid(
            "data.digits", split=v.choice("train", "judge_train", "judge_test"), augment=v.flag()
        ),
        valid(
            "data.image_folder",
            {"path": "album", "size": "8"},
            path=v.each("None", "3", "'nowhere'", "a_file", "precious", "{}"),
            size=v.count(),
            channels=v.count(1, 4).filter(lambda text: text != "2"),
        ),
        valid(
            "data.Images",
            {"pixels": pictures},
            pixels=v.each("None", "3", "'abc'", "torch.zeros(4, 1, 8, 8)", "torch.zeros(4).byte()"),
            labels=v.each("3", "'abc'", "{'a': torch.zeros(3).long()}", "{'a': 'abc'}", "[1]"),
            condition=v.each("'no_such'", "3", "[]"),
            then=".sample(2)",
        ),
        valid("data.glyphs", {"n": "2"}, n=v.count(), first=v.count(0)),
        valid(
            "data.Loader",
            {"dataset": "[torch.zeros(2)] * 4", "workers": "1"},
            dataset=v.each("None", "3", "nan", "True", "object()", "[]", "{}", "iter([])", "len"),
            workers=v.count(),
            then=".sample(2)",
            unknown=("dataset", "workers"),
        ),
        valid(
            "data.Loader([torch.zeros(2)] * 4, workers=1).sample",
            {"n": "2"},
            n=v.count(),
            generator=v.generator(),
        ),
        valid(
            "data.memory_mapped",
            {"path": "array"},
            path=v.each("None", "'nowhere.npy'", "a_file", "precious", "{}", "object()"),
        ),
    ]
