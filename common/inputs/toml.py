"""TOML files that users write."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tieflow.common.errors import CaseError


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a file and what it says. Raises CaseError, naming the file, for one that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CaseError(f"{path}: not valid TOML ({error}).") from None
    except RecursionError:
        raise CaseError(f"{path}: lists or tables nested too deeply. Remove brackets.") from None
    except FileNotFoundError:
        raise CaseError(f"{path}: no such file. A case is a folder with a case.toml in it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path}: cannot be read ({error}). Save it as UTF-8 text.") from None
    except ValueError as error:
        # Of an integer with thousands of digits.
        raise CaseError(f"{path}: a number that is too long ({error}). Shorten it.") from None
