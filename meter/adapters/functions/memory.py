"""Has Python look less often for garbage that refers to itself, and never among what a start has made; and
has the C library keep the memory of a request's body for the next one.
"""

import gc

# So many more objects that can be part of a cycle than when the youngest were last looked through; CPython's
# is 2,000. A call under way holds 80: at 20,000, 256 calls at once were enough for a collection of 30 ms each
# time they came, 70 to 130 us of each call's 1,300. They leave no cycles, so that nothing waits for one. To
# look through 100,000 that are all in use takes 6 ms, in which nothing is served; 50,000 take 2.2.
GC_ALLOCATIONS = 50_000
# A batch of 10,000 events holds 130,000 until it is counted, and leaves no cycles: this is several of them.
BATCH_ALLOCATIONS = 500_000
# glibc raises its threshold for memory of its own mappings to what it has seen freed, and keeps twice as much
# at the heap's top (mallopt(3), M_MMAP_THRESHOLD). Its own 128 KiB are below a coding agent's first request.
KEPT_BYTES = 4_194_304


def collect_rarely() -> None:
    """For a process that serves or counts, from its start on.

    Modules are no garbage: looking through them while they are imported was a tenth of a start's CPU time.
    A batch makes many objects, and the sums that are remembered are many more: looking through them took
    up to a fourth of the aggregator's time.
    """
    gc.set_threshold(GC_ALLOCATIONS, *gc.get_threshold()[1:])


def keep_freed_memory() -> None:
    """Keep up to twice `KEPT_BYTES` that are free, in place of giving them back for each body to be had anew.

    A stream's request of 90 KB found 39 of its pages new, which the kernel cleared: 10 to 17 % of a call's
    CPU time. No page is touched here. With another C library, or thresholds that the operator has set,
    nothing changes.
    """
    bytes(KEPT_BYTES)


def keep_what_is_there() -> None:
    """For a process that has started: modules and settings stay until it ends, and are not looked through.

    A hundred thousand objects: together with `collect_rarely` 60 to 90 us of a call's CPU time.
    """
    gc.freeze()


class Lull:
    """While at least one batch is counted, they are looked for more seldom still.

    At the usual threshold all that a large batch holds is looked through several times, in vain.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._usual = gc.get_threshold()

    def __enter__(self) -> None:
        """A batch begins."""
        if not self._batches:
            self._usual = gc.get_threshold()
            gc.set_threshold(max(BATCH_ALLOCATIONS, self._usual[0]), *self._usual[1:])
        self._batches += 1

    def __exit__(self, *_: object) -> None:
        """It has ended, however."""
        self._batches -= 1
        if not self._batches:
            gc.set_threshold(*self._usual)
