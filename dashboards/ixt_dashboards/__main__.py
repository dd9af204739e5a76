"""Write what is built into the sources: `python -m ixt_dashboards FOLDER`."""

import sys
from pathlib import Path

from ixt_dashboards.files import files

if __name__ == "__main__":
    for path, text in files().items():
        file = Path(sys.argv[1], path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
