"""Stub of the compiled module; sections mirror csrc/."""
