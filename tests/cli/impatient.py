"""`ixt` with two seconds of patience for a judge that starts, instead of half an hour."""

from ixt_operator.cli.main import main
from ixt_operator.plan import children

children.JUDGE_READY_SECONDS = 2
main()
