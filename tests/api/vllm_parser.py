"""How vLLM's own parser understands its options, in a process of its own: prints JSON, {form: option}.

The forms are those that it takes for an option: the name, every beginning of it, `_` for `-`, a key of a JSON
option, and no- before it.
"""

import json
from collections.abc import Iterator

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser


class Parser(FlexibleArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def forms(name: str) -> Iterator[str]:
    for end in range(3, len(name) + 1):
        yield from (name[:end], f"{name[:end]}=a=b", f"{name[:end]}.a=b")
    for spelled in (name.replace("-", "_"), f"--{name[2:].replace('-', '_')}"):
        yield from (spelled, f"{spelled}=a=b", f"{spelled}.a.b=c")


parser = make_arg_parser(Parser())
options = {}
for action in parser._actions:
    action.type = action.choices = action.default = None  # a name is all that matters here
    options |= {name: action for name in action.option_strings if name.startswith("--") and name != "--help"}
dests = {action.dest: action.option_strings[0] for action in options.values()}
found = {}
for name in options:
    for form in forms(name):
        try:
            values = vars(parser.parse_args([form]))
        except (ValueError, SystemExit):
            continue
        found[form] = [dests[dest] for dest, value in values.items() if value is not None and dest in dests]
print(json.dumps(found))
