"""`python -m tests.diagnosis`: the table of all faults; exit code 1 if ours are not named as they should be."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.diagnosis.run import rows, server_faults, totals
from tests.diagnosis.table import as_json, as_markdown, head, line, summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.diagnosis", description=__doc__)
    parser.add_argument("faults", nargs="*", help="which; all of them if none is named")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page docs/reference/diagnosis.md")
    parser.add_argument("--ours", action="store_true", help="leave curl, openssl and ssl out")
    options = parser.parse_args()
    print(head())
    found = []
    for row in rows(options.faults or server_faults(), others=not options.ours):
        found.append(row)
        print(line(row), flush=True)
    sums = totals(found)
    print()
    for total in sums:
        print(summary(total))
    if options.json:
        options.json.write_text(json.dumps(as_json(found, sums), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(as_markdown(found, sums), encoding="utf-8")
    return 0 if options.faults or all(total.good for total in sums) else 1


if __name__ == "__main__":
    sys.exit(main())
