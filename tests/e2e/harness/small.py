"""`remote_parallel_map` with less memory per worker than its default, so that several fit on a
small test machine."""

import muster


def small_map(function_, inputs, **options):
    """`muster.remote_parallel_map` with a quarter of a GB per worker and no spinner, unless the
    options say otherwise."""
    return muster.remote_parallel_map(
        function_, inputs, **{"func_ram": 0.25, "spinner": False, **options}
    )
