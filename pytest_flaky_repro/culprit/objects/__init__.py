"""Candidates that are object files: whose flags, or whose compiler, make the kernel crash.

Two full builds through a compiler wrapper, in an object tree of their own, fill a store with both
variants of every object. Any mixture is then made by swapping objects and linking again.

The tree is never copied, as kbuild would compile everything again in a copy: each object depends
on objtool by its absolute path. So there is one tree, at one path, and nothing needs root.
"""

from __future__ import annotations

from pathlib import Path

SCRIPT = Path(__file__).with_name("cc.sh")  # the wrapper; what it obeys is said at its head
