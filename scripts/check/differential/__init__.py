"""The parts of scripts/check/conformance.py."""
