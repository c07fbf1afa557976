"""How many primes are there below a limit, and where? A call within a call.

The outer function gets a wide range and splits it as it sees fit; its parts are inputs of a call that it makes itself,
from within its container, with no configuration. While it waits it lends its core to them.
"""

from __future__ import annotations

from beside_serial import compare, options, timed
from muster import remote_parallel_map

Range = tuple[int, int]


def count_primes(part: Range) -> int:
    """Runs in a container: a sieve of one part."""
    low, high = part
    is_prime = bytearray([1]) * (high - low)
    for divisor in range(2, int(high**0.5) + 1):
        first = max(divisor * divisor, -(-low // divisor) * divisor)
        if first < high:
            is_prime[first - low :: divisor] = bytes(len(range(first, high, divisor)))
    return sum(is_prime[max(0, 2 - low) :])


def split(whole: Range, pieces: int) -> list[Range]:
    low, high = whole
    edges = [low + (high - low) * piece // pieces for piece in range(pieces + 1)]
    return list(zip(edges, edges[1:]))


def count_wide(wide: Range) -> int:
    """Runs in a container, and makes a call of its own."""
    return sum(remote_parallel_map(count_primes, split(wide, 4), func_ram=0.25))


def main() -> None:
    small = options(__doc__).parse_args().small
    limit, width = (100_000, 2) if small else (80_000_000, 8)
    wides = split((0, limit), width)

    counts, seconds = timed(lambda: remote_parallel_map(count_wide, wides, func_ram=0.25))
    alone, serial_seconds = timed(
        lambda: [sum(count_primes(part) for part in split(wide, 4)) for wide in wides]
    )

    for (low, high), count in zip(wides, counts):
        print(f"{low:>12,} to {high:>12,}: {count:>10,} primes")
    print(f"{sum(counts):,} primes below {limit:,}")
    assert counts == alone
    compare(seconds, serial_seconds)


if __name__ == "__main__":
    main()
