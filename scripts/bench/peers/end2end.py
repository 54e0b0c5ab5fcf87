"""Upstream's side of the end-to-end benchmark: its data set, transforms and loader, and its training step. One request for each line of input."""
import json
import resource
import sys
import time

import torch
from data import open_loader
from upstream import Upstream


def worker_bytes(loader_iterator):
    """What the loader's processes hold, pages that they share counted once."""
    total = 0
    for worker in loader_iterator._workers:
        with open(f"/proc/{worker.pid}/smaps_rollup") as rollup:
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024
    return total


def main():
    settings, recipes, checkout = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
    loader, sampler = open_loader({**settings, "recipes": recipes, "upstream": checkout})
    sampler.images = 4096 * settings["batch"]
    training = Upstream(checkout, **settings)
    on_gpu = settings["device"].startswith("cuda")
    photographs = iter(loader)
    size = settings["imageSize"]
    synthetic = [torch.randn(settings["batch"], 3, size, size) for _ in range(2)]
    if on_gpu:
        synthetic = [view.cuda() for view in synthetic]

    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        for _ in range(request["steps"]):
            views = synthetic if request["views"] == "synthetic" else next(photographs)[0]
            loss = training.step(*views)
        if on_gpu:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / request["steps"]
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak = torch.cuda.max_memory_allocated() if on_gpu else own + worker_bytes(photographs)
        print(json.dumps({"seconds": seconds, "loss": loss, "peakBytes": peak}), flush=True)


if __name__ == "__main__":
    main()
