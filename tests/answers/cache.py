"""A cache on disk that forgets what was used least."""

import hashlib
import os
import time


class EvictionError(Exception):
    """Raised when nothing can be evicted although the cache is full."""


def key_for(url):
    """Returns the name of the file that a page is kept in: the SHA-256 of its address."""
    return hashlib.sha256(url.encode("utf-8")).hexdigest()


class DiskCache:
    """Keeps pages in a directory, at most `limit` bytes of them."""

    def __init__(self, directory, limit=50_000_000):
        self.directory = directory
        self.limit = limit
        os.makedirs(directory, exist_ok=True)

    def evict_oldest(self):
        """Removes the page whose last use is the longest ago."""
        files = [os.path.join(self.directory, name) for name in os.listdir(self.directory)]
        if not files:
            raise EvictionError("the cache is empty")
        os.remove(min(files, key=os.path.getatime))

    def is_stale(self, path, max_age=3600):
        """Tells whether a page is older than an hour, unless another age is given."""
        return time.time() - os.path.getmtime(path) > max_age
