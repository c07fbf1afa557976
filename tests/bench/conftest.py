"""Puts the package on the path of its tests: pytest does so with the folder of a conftest.py."""
