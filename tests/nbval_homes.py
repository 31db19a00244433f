"""A store of its own for every notebook that nbval runs: what one has built, another must not find."""

import os
from pathlib import Path

import pytest

HOME = Path(os.environ["WORKBENCH_HOME"])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the notebook's kernel is started, which takes the environment over."""
    os.environ["WORKBENCH_HOME"] = str(HOME / item.path.stem)
