"""The atomic writer: the old file or the new one, and nothing beside it."""

import pytest

from alignflow.checkpoint.writing import write_atomically


@pytest.mark.parametrize("content", ["größer\n", b"\x00\xff"], ids=["text", "bytes"])
def test_a_file_is_replaced_as_a_whole(content, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def replace(source, target):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_can_be_chosen(tmp_path):
    seen = tmp_path / "absent" / "other"
    with pytest.raises(FileNotFoundError, match="other"):
        write_atomically(tmp_path / "file", "new", temporary=seen)
