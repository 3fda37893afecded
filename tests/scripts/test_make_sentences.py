"""The text of sentences: what is written of an archive of WordNet's files."""

import io
import lzma
import sys
import tarfile

import make_sentences

from alignflow.data import sentences

GLOSSES = {
    "noun": ['that which is perceived; "Everything exists"; "full of rackets, balls"', "1984"],
    "verb": ['draw air into, and expel out of, the lungs  ; "I can"'],
    "adj": [f'{"o" * 64}; "{"o" * 65}"'],
    "adv": ['(often used) well; "I can"'],
}


def archive(folder):
    path = folder / "wordnet.tgz"
    with tarfile.open(path, "w:gz") as opened:
        for part, glosses in GLOSSES.items():
            rows = ["  1 This software and database is being provided to you, the LICENSEE, by"]
            rows += [f"00001740 03 {part[0]} 01 entity 0 000 | {gloss}" for gloss in glosses]
            data = "\n".join(rows).encode("latin1")
            member = tarfile.TarInfo(f"package/dict/data.{part}")
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return path


def test_short_plain_glosses_and_examples_are_written_once_in_order(tmp_path, monkeypatch, capsys):
    output = tmp_path / "sentences.txt.xz"
    arguments = ["make_sentences.py", str(archive(tmp_path)), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    make_sentences.main()
    assert lzma.decompress(output.read_bytes()).decode().splitlines() == [
        "draw air into, and expel out of, the lungs",
        "everything exists",
        "full of rackets, balls",
        "i can",
        "o" * 64,
        "that which is perceived",
    ]
    assert capsys.readouterr().out.startswith("6 sentences of 10 glosses and examples: ")


def test_what_travels_with_the_library_is_plain():
    texts = {*sentences().strings, *sentences("test").strings}
    assert len(texts) == 112_157 and all(map(make_sentences.PLAIN.fullmatch, texts))
