"""Bytes ↔ pictures: decoding with limits, encoding with provenance, and sheets to compare by."""
