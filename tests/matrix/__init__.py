"""The tests with other servers, Celery versions, Pythons and libraries; see docs/compatibility.md.

Not part of the everyday tests: `make test-matrix`.
"""
