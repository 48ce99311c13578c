"""Adds the option `--long`, without which long tests are skipped. Most of them test rare faults of the kernel."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also run the long tests")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: run only with --long")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long; `cargo lab test --long` runs it"))
