"""Buckets of equal relative width for times, as in HdrHistogram (Gil Tene, 2012).

`2 ** bits` buckets to each power of two of nanoseconds, so that the end of a bucket is at most
`2 ** -bits` above the times in it.
"""

from __future__ import annotations


def bucket_of(ns: int, bits: int) -> int:
    """The number of the bucket of a time."""
    if ns < 2 << bits:  # these are their own buckets
        return max(0, ns)
    shift = ns.bit_length() - bits - 1
    return (shift << bits) + (ns >> shift)


def bucket_end(bucket: int, bits: int) -> int:
    """The longest time of a bucket, in nanoseconds."""
    if bucket < 2 << bits:
        return bucket
    shift = (bucket >> bits) - 1
    return (((bucket & ((1 << bits) - 1)) + (1 << bits) + 1) << shift) - 1
