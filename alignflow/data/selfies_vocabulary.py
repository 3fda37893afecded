"""Molecules as SELFIES symbols: every sequence of tokens is a molecule.

Source: Krenn et al. 2020, "Self-referencing embedded strings (SELFIES)"; the package `selfies`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

from alignflow import checks
from alignflow.chemistry import canonical
from alignflow.decoding import register_decoder

from .vocabulary import END, PADDING, Vocabulary, check_strings

__all__ = ["SelfiesVocabulary", "Smiles"]


class Smiles(str):
    """A molecule as SMILES: a text that reports draw."""

    __slots__ = ()

    def __deepcopy__(self, memo: Any) -> Self:
        return self


@register_decoder("selfies")
class SelfiesVocabulary(Vocabulary):
    """A vocabulary of SELFIES symbols, such as "[C]" and "[=O]", that takes and gives SMILES.

    A molecule has many SMILES; given are those that the package writes, without aromatic rings.
    Tokens that stand for no atom give the empty string. Needs alignflow[molecules].

    Args:
        symbols: SELFIES symbols, and perhaps padding and end.
        padding: As in `Vocabulary`.
        end: As in `Vocabulary`.

    Raises:
        ValueError: If a symbol is none of SELFIES.
    """

    unknown = r"\[[^\]]*\]|."

    def __init__(self, symbols: Iterable[str], padding: str = PADDING, end: str = END):
        super().__init__(symbols, padding, end)
        for symbol in self._writing:
            if not (symbol.startswith("[") and symbol.endswith("]")) or "[" in symbol[1:]:
                raise ValueError(f"a symbol of SELFIES is like '[C]', got {symbol!r}")

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """Padding, and the symbols found in molecules given as SMILES, in order."""
        selfies = _selfies()
        written = _written(check_strings(strings))
        return cls([PADDING, *sorted(selfies.get_alphabet_from_selfies(written))])

    def split(self, strings: Sequence[str]) -> list[list[int]]:
        """The tokens of each molecule, given as SMILES.

        Raises:
            ValueError: If a string is no molecule, or has a symbol that is not in the vocabulary.
        """
        return super().split(_written(strings))

    def decode(self, tokens: Any, *args: Any, **options: Any) -> list[str]:
        """The molecules of tokens (N, L), or of soft tokens (N, L, V), as SMILES."""
        decoder = _selfies().decoder
        return [Smiles(decoder(selfies)) for selfies in super().decode(tokens, *args, **options)]

    def canonical(self, strings: Sequence[str]) -> list[str]:
        """Canonical SMILES, the same for all SMILES of a molecule; "" for what is none."""
        return canonical(strings)


def _written(smiles: Sequence[str]) -> list[str]:
    """Molecules in SELFIES."""
    selfies, written = _selfies(), []
    for i, molecule in enumerate(smiles):
        try:
            written.append(selfies.encoder(molecule))
        except selfies.EncoderError as error:
            reason = str(error).strip().replace("\n", " ")
            raise ValueError(
                f"string {i} ({checks.shown(molecule)}) is no molecule that SELFIES can write: "
                f"{reason}"
            ) from error
    return written


def _selfies() -> Any:
    try:
        import selfies
    except ImportError as error:
        raise ImportError(
            "molecules need the package selfies: pip install 'alignflow[molecules]'"
        ) from error
    return selfies
