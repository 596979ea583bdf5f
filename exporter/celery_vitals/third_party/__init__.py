"""Undocumented attributes of the libraries, one module per library.

Each function names the library and the reason why no documented interface serves.  A release of
the library may rename what is used here: `tests/unit/test_third_party.py` names every attribute
and what stops working without it.  That test also names what cannot go through a function: the
methods of uvicorn and ssl that `web` overrides, and names that are imported where they are used.
pyproject.toml excludes the next major version of each library.
"""
