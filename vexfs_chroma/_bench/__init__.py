"""Measurements against chromadb, each a ratio within one run (`make bench`)."""
