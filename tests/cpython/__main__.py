"""`python -m tests.cpython`: CPython's test_ssl over Pellucid; exit code 1 if anything is not as it should be."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from tests.cpython.run import Found, expectations, found_in, module_file
from tests.cpython.table import as_page, counts, line, summary

MODULE = "test.test_ssl"
OTHERS = (
    "test.test_asyncio.test_ssl",
    "test.test_asyncio.test_sslproto",
    "test.test_ftplib",
    "test.test_imaplib",
    "test.test_poplib",
    "test.test_httplib",
    "test.test_urllib2_localnet",
    "test.test_httpservers",
    "test.test_xmlrpc",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cpython", description=__doc__)
    parser.add_argument("module", nargs="?", default=MODULE, help=f"which of CPython's test modules; {MODULE}")
    parser.add_argument("tests", nargs="*", help="which of its tests, as Class.test; all of them if none is named")
    parser.add_argument("--words", action="store_true", help="print all that failures say")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="run all modules, write docs/reference/cpython.md"
    )
    options = parser.parse_args()
    if module_file(options.module) is None:
        print(f"this Python came without {options.module}: on Debian it is in libpython3.x-testsuite", file=sys.stderr)
        return 2
    print(f"{options.module} of CPython {platform.python_version()} over Pellucid\n")
    found = run(options.module, options.tests, words=options.words)
    good = all(one.good for one in found)
    if not options.tests:
        unknown = set(expectations(options.module)) - {one.test for one in found}
        if unknown:
            print("of other versions of Python: " + ", ".join(sorted(unknown)))
    if options.markdown:
        others = []
        for module in OTHERS:
            print(f"\n{module}")
            more = run(module, (), words=options.words)
            others.append((module, counts(more)))
            good = good and all(one.good for one in more)
        version = ".".join(platform.python_version_tuple()[:2])
        options.markdown.write_text(as_page(found, version, others), encoding="utf-8")
    return 0 if good else 1


def run(module: str, tests: list[str] | tuple[str, ...], *, words: bool) -> list[Found]:
    found = []
    for one in found_in(module, tests):
        found.append(one)
        print(line(one), flush=True)
        if words and one.words and not one.good:
            print(one.words)
    print(f"\n{summary(found)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
