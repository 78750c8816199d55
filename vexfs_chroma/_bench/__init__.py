"""Measurements against chromadb and hnswlib, each a ratio within one run (`make bench`)."""
