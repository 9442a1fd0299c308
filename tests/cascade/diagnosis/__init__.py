"""Tests of the findings of `cascade doctor`."""
