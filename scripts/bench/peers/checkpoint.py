"""PyTorch's side of the checkpoint benchmark: each line of input is one request in JSON."""
import json
import os
import re
import sys
import time

import torch

torch.set_num_threads(json.loads(sys.argv[1])["threads"])
held = None


def memory(name):
    """A resident size in bytes (Linux)."""
    with open("/proc/self/status") as status:
        return int(re.search(name + r":\s+(\d+) kB", status.read()).group(1)) * 1024


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def save_durably(value, path):
    """What a careful program does around torch.save: a temporary file, fsync, rename, fsync of the folder."""
    temporary = path + ".tmp"
    torch.save(value, temporary)
    for each in (temporary, os.path.dirname(path)):
        if each != temporary:
            os.rename(temporary, path)
        descriptor = os.open(each, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def answer(request):
    global held
    start = time.perf_counter()
    if request["do"] == "hold":
        held = load(request["path"])
        return {"seconds": time.perf_counter() - start}
    if request["do"] == "load":
        with open("/proc/self/clear_refs", "w") as references:
            references.write("5")  # sets the largest resident size back to the present one
        before = memory("VmRSS")
        start = time.perf_counter()
        value = load(request["path"])
        seconds = time.perf_counter() - start
        extra = memory("VmHWM") - before
        del value
        return {"seconds": seconds, "extraBytes": extra}
    if request["do"] == "save":
        (save_durably if request["durable"] else torch.save)(held, request["path"])
        seconds = time.perf_counter() - start
        os.unlink(request["path"])
        return {"seconds": seconds}
    raise ValueError(request["do"])


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
