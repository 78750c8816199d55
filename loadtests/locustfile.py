"""What `locust -f loadtests/locustfile.py` loads: see vexfs_chroma/_load/locustfile.py."""

from vexfs_chroma._load.locustfile import EmbeddedUser, HttpUser, Shape

__all__ = ["EmbeddedUser", "HttpUser", "Shape"]
