"""Count phrases that the style of this project avoids: `python tools/style.py [FOLDER...]`, by default the package.

A count is a hint for a reader, not an error: some of these words have other meanings too.
"""

import re
import sys
from pathlib import Path

PATTERNS = {
    "a cell, an axis, a sample (for 'per')": (
        r"\b(one|two|\w+s) (numbers? |values? |fields? |files? )?an? (cell|axis|sample|step|node)\b"
    ),
    "is no, are no (for 'is not a')": r"\b(is|are|was|were) no [a-z]+\b(?! longer| more)",
    "anew": r"\banew\b",
    "beside": r"\bbeside\b",
    "whence, whereof, thereof": r"\b(whence|whereof|thereof)\b",
    "so many, so often, so far (as a start)": r"(^|[.:#\"] )So (many|often|much|few)\b",
    "held (for 'prescribed' or 'fixed')": r"\bheld\b",
    "docstrings with Give, Tell, Say, Look at": r'"""(Give|Tell|Say|Look at|Take note|Find out)\b',
    "The face of": r"\b[Tt]he face of\b",
    "See there, Whether it is": r"See there\.|Whether it is\.|None for none",
    "that is asked for": r"\b(that|what) (is|was) asked for\b",
}


def main(folders: list[str]) -> None:
    """Print the count of each phrase in the Python and Markdown files of the folders."""
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.suffix in (".py", ".md")]
    text = "\n".join(path.read_text() for path in files if "_build" not in path.parts)
    for name, pattern in PATTERNS.items():
        print(f"{len(re.findall(pattern, text, re.MULTILINE)):6}  {name}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["sciml_bounds"])
