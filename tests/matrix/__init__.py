"""The tests against other servers, other Celery versions in the workers, and other Pythons; see docs/compatibility.md.

Not part of the everyday tests: `make test-matrix`.
"""
