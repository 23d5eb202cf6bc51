"""System tests drive the real binary (ROCMFORGE_BIN) with the real model (ROCMFORGE_MODEL)."""

import os
import subprocess

import pytest


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="campaigns at their full length")


@pytest.fixture(scope="session")
def long(request):
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def binary():
    return os.environ["ROCMFORGE_BIN"]


@pytest.fixture(scope="session")
def model():
    return os.environ["ROCMFORGE_MODEL"]


@pytest.fixture(scope="session")
def rf(binary):
    """Runs the program; returns the finished process with text output."""

    def run(*args, stdin="", timeout=120, text=True):
        return subprocess.run([binary, *map(str, args)], input=stdin, capture_output=True, text=text, timeout=timeout)

    return run
