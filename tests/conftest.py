"""What tests of several parts share."""

import logging

import pytest


@pytest.fixture(scope="module")
def quiet_exporter():
    """The exporter writes to a log at each step, which takes most of its time where somebody keeps it."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)
