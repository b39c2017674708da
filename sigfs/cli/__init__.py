"""The command ``sigfs``: the only package that prints and the only one that reads the environment."""

from sigfs.cli.app import main

__all__ = ["main"]
