"""The rules: one function per finding."""
