"""``python -m tests.faults [KIND ...]``: run the whole corpus and print the table; ``--verbose`` says all answers."""

import sys

from tests.faults.corpus import corpus
from tests.faults.run import failures, run_case, table

results = []
for case in corpus(*(argument for argument in sys.argv[1:] if argument != "--verbose")):
    results.append((case, run_case(case)))
    if "--verbose" in sys.argv:
        print(f"{case.kind}: {case.name}: {results[-1][1].column}: {results[-1][1].said[:300]}", flush=True)
print(table(results))
if wrong := failures(results):
    print("\n".join(["", *wrong]))
sys.exit(bool(wrong))
