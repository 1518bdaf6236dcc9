from __future__ import annotations

import pytest

from turnwire.cli.failing import exit_code
from turnwire.errors import ConfigError, StoreError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no such model"), 2, "turnwire: no such model\n"),
        (StoreError("the file\nis damaged"), 1, "turnwire: the file is damaged\n"),
        (OSError(98, "Address in use"), 1, "turnwire: [Errno 98] Address in use.\n"),
        (KeyboardInterrupt(), 0, ""),
    ],
)
def test_an_error_is_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    """Each kind of error has its exit code, and one line on standard error."""
    assert code == exit_code(error)
    assert ("", line) == capsys.readouterr()
