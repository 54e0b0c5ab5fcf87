"""PyTorch's sides of the step benchmark on the CPU: upstream's own classes, or the recipe written for speed, eager or compiled. One request for each
line of input, one line of JSON in answer."""
import json
import os
import resource
import sys
import time

side, settings, checkout = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]

# What torch.compile has made stays, so that a second run is sooner done.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.abspath("build/inductor"))

import torch

if side == "upstream":
    from upstream import Upstream

    training = Upstream(checkout, **settings)
else:
    from tuned import Tuned, matrix_product_tflops

    training = Tuned(compile=side == "compiled", **settings)
size = settings["imageSize"]
views = [torch.randn(settings["batch"], 3, size, size) for _ in range(2)]

for line in sys.stdin:
    request = json.loads(line)
    if "product" in request:
        print(json.dumps(matrix_product_tflops(settings["threads"])), flush=True)
        continue
    start = time.perf_counter()
    for _ in range(request["steps"]):
        loss = training.step(*views)
    seconds = (time.perf_counter() - start) / request["steps"]
    print(json.dumps({"seconds": seconds, "loss": loss, "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)
