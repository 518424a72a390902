"""The bucket of a subject: what its ledger partition and its hub partition follow from.

A bucket is a pure function of the subject, so every event of a call meets the same ledger partition
for ever. With 64 of them, the rows of many subjects share a transaction, while a bucket takes a
64th of the load: 64 ledger partitions take more than a storage account does.
"""

from functools import lru_cache
from hashlib import sha256

BUCKETS = 64


@lru_cache(maxsize=65_536)
def bucket_of(subject: str) -> int:
    """The bucket, from 0 to 63: the first six bits of the SHA-256 of the subject in UTF-8."""
    return sha256(subject.encode(errors="surrogatepass")).digest()[0] >> 2


def hub_partition_of(subject: str, partitions: int) -> int:
    """The index of the subject's hub partition; a batch of one partition meets few buckets."""
    return bucket_of(subject) % partitions
