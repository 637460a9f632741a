# One process of the unmodified client for many commands: each line of standard input is the words of one as JSON, and
# each is answered by a line with its status, its output and its complaints. Starting Python and loading the client for
# every command would take most of the time of a test; what the client does for a command is the same either way.
import contextlib
import io
import json
import sys

from openstackclient import shell

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = shell.main(json.loads(line))
        except SystemExit as end:
            status = end.code
    answer = {"status": int(status or 0), "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps(answer), flush=True)
