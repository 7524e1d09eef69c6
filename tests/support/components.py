"""What the tests need beside Python: there, or a reason that names the package to install."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def need(command: str, package: str) -> str:
    """The path of `command`; without it the test is skipped, or fails where CI=true."""
    path = shutil.which(command)
    if path:
        return path
    return lack(f"{command}: not found; install it: apt-get install {package}")


def lack(reason: str) -> NoReturn:
    """Skip the test for this reason, or fail where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
