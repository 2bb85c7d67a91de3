"""`python -m tests.cpython.child MODULE SECONDS [TEST …]`: a test module of CPython, unmodified, over Pellucid.

Its report is JSON lines on stdout.
One process for one run: what `pellucid.install` changes stays changed for the threads that tests leave behind. Each
line is one test: its name, its outcome, what it said, how long it took, and which stacks made something during it.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import json
import os
import signal
import ssl
import sys
import tempfile
import time
import types
import unittest
from collections.abc import Callable
from typing import Any

import pellucid
from pellucid.integrations.ssl_object import SSLObject
from pellucid.integrations.ssl_socket import SSLSocket

TEST_SECONDS = 30
"""what one test may take; the longest of test_ssl take three"""

RESOURCES = ["walltime", "cpu", "largefile", "decimal", "subprocess"]
"""of `test.support.use_resources`: all but the network and the screen"""


class TookTooLong(BaseException):
    """Not an Exception: the tests' servers suppress those."""


class Watched:
    """How many objects of either stack were made: who did not make one of ours was not tested on ours."""

    def __init__(self) -> None:
        self.ours = 0
        self.openssl = 0

    def count_ours(self, owner: type, name: str) -> None:
        made = getattr(owner, name)

        @functools.wraps(made)
        def counted(*arguments: Any, **named: Any) -> Any:
            self.ours += 1
            return made(*arguments, **named)

        setattr(owner, name, counted)

    def count_openssl(self, owner: type) -> None:
        made = owner.__dict__["_create"].__func__  # a class method of ssl.SSLObject and of ssl.SSLSocket

        @functools.wraps(made)
        def counted(*arguments: Any, **named: Any) -> Any:
            self.openssl += 1
            return made(*arguments, **named)

        owner._create = classmethod(counted)  # type: ignore[attr-defined]


class Result(unittest.TestResult):
    """Writes one line when a test is over; of several subtests that failed the first counts."""

    def __init__(self, watched: Watched, tell: Callable[[dict[str, object]], None]) -> None:
        super().__init__()
        self._watched = watched
        self._tell = tell
        self._outcome, self._words = "passed", ""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._words = "passed", ""
        self._before = self._watched.ours, self._watched.openssl
        self._begun = time.monotonic()
        signal.alarm(TEST_SECONDS)

    def stopTest(self, test: unittest.TestCase) -> None:
        signal.alarm(0)
        ours, openssl = self._watched.ours - self._before[0], self._watched.openssl - self._before[1]
        self._tell(
            {
                "test": name_of(test),
                "outcome": self._outcome,
                "words": self._words,
                "seconds": round(time.monotonic() - self._begun, 3),
                "ours": ours,
                "openssl": openssl,
            }
        )
        super().stopTest(test)

    def _note(self, outcome: str, words: str) -> None:
        if self._outcome in ("passed", "skipped"):
            self._outcome, self._words = outcome, words

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._note("failed", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]
        if not isinstance(test, unittest.TestCase) or not hasattr(test, "_testMethodName"):
            self._tell(line_of(str(test), "failed", self._words))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._note("failed", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note("failed", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if self._outcome == "passed":
            self._outcome, self._words = "skipped", reason
        if not hasattr(self, "_begun") or not hasattr(test, "_testMethodName"):  # a class or a module as a whole
            self._tell(line_of(str(test), "skipped", reason))


def line_of(test: str, outcome: str, words: str) -> dict[str, object]:
    """What is told of something that is no single test: a class or a module that could not be set up, or is skipped."""
    return {"test": test, "outcome": outcome, "words": words, "seconds": 0.0, "ours": 0, "openssl": 0}


def name_of(test: unittest.TestCase) -> str:
    """ "test.test_ssl.ContextTests.test_ciphers" → "ContextTests.test_ciphers"."""
    return ".".join(test.id().split(".")[-2:])


def run(module_name: str, seconds: float, only: list[str]) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True)
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the tests print is not the report
    watched = Watched()
    watched.count_openssl(ssl.SSLObject)
    watched.count_openssl(ssl.SSLSocket)
    watched.count_ours(pellucid.SSLContext, "__init__")
    for kind in (SSLObject, SSLSocket):
        watched.count_ours(kind, "_create")
    pellucid.install(dangerous_allow_unverified=True)

    def tell(line: dict[str, object]) -> None:
        report.write(json.dumps(line) + "\n")
        report.flush()

    def over(_number: int, frame: types.FrameType | None) -> None:
        where = "" if frame is None else f" ({frame.f_code.co_name}, line {frame.f_lineno})"
        raise TookTooLong(f"more than {TEST_SECONDS} seconds{where}")

    signal.signal(signal.SIGALRM, over)
    support = importlib.import_module("test.support")
    support.use_resources = list(RESOURCES)  # type: ignore[attr-defined]
    module = importlib.import_module(module_name)
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    if only:
        suite = chosen(suite, set(only))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        suite.run(Result(watched, tell))
        os.chdir("/")
    report.close()
    os._exit(0)  # whatever threads the tests left behind


def chosen(suite: unittest.TestSuite, only: set[str]) -> unittest.TestSuite:
    found = unittest.TestSuite()
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            found.addTest(chosen(one, only))
        elif name_of(one) in only:
            found.addTest(one)
    return found


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
