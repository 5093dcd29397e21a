"""Measurements: each module is one command that writes one file to results/, with provenance."""
