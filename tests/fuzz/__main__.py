"""Call the public interface with odd arguments: `python tests/fuzz --calls 10000`."""

import argparse
import collections
import os
import sys
import time
import traceback

os.environ.setdefault("SCIPY_ARRAY_API", "1")

import torch

torch.set_num_threads(1)

from fuzz_loop import draw_call, run  # noqa: E402


def main():
    """Make the calls, print the failures, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--first", type=int, default=0, help="number of the first call")
    parser.add_argument("--only", type=int, help="make the call of this number, and show its error")
    options = parser.parse_args()
    if options.only is not None:
        name, call = draw_call(options.seed, options.only)
        print(name, call, sep="\n")
        try:
            print("gives:", call.function(*call.args, **call.kwargs))
        except Exception:
            traceback.print_exc(file=sys.stdout)
        return run(options.seed, [options.only])[0] > 0
    outcomes, start = collections.Counter(), time.perf_counter()

    def count(name, described, error):
        outcomes["refused" if error is not None else "answered"] += 1

    numbers = range(options.first, options.first + options.calls)
    failures, seconds = run(options.seed, numbers, on_call=count)
    print(
        f"{options.calls} calls of seed {options.seed} in {time.perf_counter() - start:.0f} s: "
        f"{outcomes['answered']} answered, {outcomes['refused']} refused, {failures} failures."
    )
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:5]
    print("Most time:", ", ".join(f"{name} {spent:.0f} s" for name, spent in slowest))
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
