"""The version of the package, a file of its own so that any module may import it."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
