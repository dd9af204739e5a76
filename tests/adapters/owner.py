"""An owner to be killed: `owner.py WORKDIR CHILD.json` runs a child until it is itself ended."""

import asyncio
import sys
from pathlib import Path

from ixt_operator.adapters.local.platform import LocalPlatform
from ixt_operator.planner.child import Child


async def main(workdir: Path, child: Child) -> None:
    async with LocalPlatform.open(workdir) as platform:
        await platform.create(child)
        await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1]), Child.model_validate_json(Path(sys.argv[2]).read_text())))
