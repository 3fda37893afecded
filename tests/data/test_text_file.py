"""The lines of a text file: distinct, weighted, and what is refused."""

import pytest

from alignflow.data import Vocabulary, text_file


def test_distinct_lines_are_weighted_by_their_number(tmp_path):
    path = tmp_path / "cities.txt"
    path.write_text("\ufeffRome\n\n  São Paulo \r\nRome\n", encoding="utf-8")
    data = text_file(path)
    assert data.strings == ["Rome", "São Paulo"]
    assert data.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert data.event_shape == (9, data.vocabulary.size)
    assert text_file(str(path), length=16).length == 16


def test_a_vocabulary_of_ones_own_is_used(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("ab\nb\n")
    vocabulary = Vocabulary(["<pad>", "a", "b"])
    assert text_file(path, vocabulary=vocabulary).vocabulary is vocabulary
    with pytest.raises(ValueError, match="string 0 .'ab'. holds 'a'"):
        text_file(path, vocabulary=Vocabulary(["<pad>", "b"]))
    with pytest.raises(ValueError, match="string 0 .'ab'. takes 2 tokens, more than length=1"):
        text_file(path, length=1)


def test_a_number_of_pieces_is_merged_from_the_lines(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "words.txt"
    path.write_text("abab\nab\nabc\n")
    data = text_file(path, vocabulary=5)
    assert data.vocabulary.symbols[1:] == ("a", "b", "c", "ab") and data.length == 2
    assert data.strings == ["abab", "ab", "abc"]


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(ValueError, match="file cannot be read as a text in UTF-8"):
        text_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="file cannot be read as a text in UTF-8"):
        text_file(path)
    path.write_text("\n \n")
    with pytest.raises(ValueError, match="file has no line of text"):
        text_file(path)
    with pytest.raises(ValueError, match="path must be that of a file, got 3"):
        text_file(3)
