"""The version of the package, which any module may import."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
