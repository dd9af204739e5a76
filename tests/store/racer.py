"""One of the processes that race: `racer.py URI NAME` says "ready", waits for a line, tells what it got."""

import json
import sys

from ixt_workloads.store import Artifact, ArtifactWriter, Claim, open_store

ROUNDS = 25

uri, name = sys.argv[1:]
store = open_store(uri)
print("ready", flush=True)
sys.stdin.readline()

won = [store.put_new(f"race/{number}", f"{name}-{number}".encode() * 1000) for number in range(ROUNDS)]

writer = ArtifactWriter(store, "k", "Train", {}, run=name, attempt=0)
added = [writer.add(f"{number}.bin", f"{name}-{number}".encode()) for number in range(5)]
artifact = writer.commit({"by": name}, [f"{number}.bin" for number in range(5)])
contents = [artifact.file(path).read_text() for path in Artifact.open(store, "k").paths]

holders = []
for number in range(ROUNDS):
    holder = Claim(store, f"claimed-{number}", run=name, run_uid=name, attempt=0).acquire()
    holders.append(holder.run if holder else name)

print(
    json.dumps(
        {
            "won": won,
            "added": added,
            "hash": artifact.manifest.content_hash,
            "by": artifact.summary["by"],
            "contents": contents,
            "holders": holders,
        }
    )
)
