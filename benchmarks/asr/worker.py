"""Serves one recogniser: `python -m asr.worker SPEC`, with JSON lines over standard input and output.

`SPEC` is a JSON object, the `kind` and its arguments. First it says what was opened, or `{"missing", "install"}`; then
each line in, the path of a file of 16-bit samples, is answered with `{"text", "wall_s", "cpu_s"}`. Reading the file is
not timed; CPU time is that of all threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from asr.recognisers import INSTALL, OPEN


def main() -> None:
    spec = json.loads(sys.argv[1])
    kind = spec.pop("kind")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply

    def reply(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=replies, flush=True)

    try:
        recogniser = OPEN[kind](**spec)
    except ImportError as error:
        if kind not in INSTALL:
            raise
        reply({"missing": str(error), "install": INSTALL[kind]})
        return
    reply({"num_bytes": recogniser.num_bytes(), "versions": recogniser.versions, "settings": recogniser.settings})
    for line in sys.stdin:
        pcm = Path(json.loads(line)).read_bytes()
        cpu_start, start = time.process_time(), time.perf_counter()
        text = recogniser.recognise(pcm)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        reply({"text": text, "wall_s": round(wall_s, 5), "cpu_s": round(cpu_s, 5)})


if __name__ == "__main__":
    main()
