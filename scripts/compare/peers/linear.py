"""The comparison's linear probe in PyTorch: upstream's own main_lincls.py, unmodified, on the CPU.

    python linear.py '{"upstream": "...", "data": "...", "checkpoint": "...", "encoder": {...}, "classes": 10, "threads": 1, "args": [...]}'

From outside it gets what it has no flags for: an architecture of the encoder's sizes, and crops of its input in place of 224 pixels. For each
line of input, a seed, it trains a probe and answers with a line of JSON.
"""
import contextlib
import functools
import io
import json
import os
import re
import sys
import tempfile
import types
import warnings

os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import torch
from torchvision import transforms

from encoder import sizes_of, use_upstream

RESULT = re.compile(r"^ \* Acc@1 ([\d.]+) Acc@5 ([\d.]+)$", re.MULTILINE)


def main(job):
    use_upstream(job["upstream"])
    torch.set_num_threads(job["threads"])
    import main_lincls
    import vits

    size = job["encoder"]["imageSize"]
    vits.__dict__["vit_compared"] = functools.partial(vits.VisionTransformerMoCo, num_classes=job["classes"], **sizes_of(job["encoder"]))
    main_lincls.model_names.append("vit_compared")
    main_lincls.transforms = types.SimpleNamespace(**{
        **vars(transforms),
        "RandomResizedCrop": lambda _: transforms.RandomResizedCrop(size),
        "Resize": lambda _: transforms.Resize(round(size * 8 / 7)),
        "CenterCrop": lambda _: transforms.CenterCrop(size),
    })
    for seed in sys.stdin:
        main_lincls.best_acc1 = 0
        sys.argv = ["main_lincls.py", "-a", "vit_compared", "--pretrained", job["checkpoint"], "--seed", seed.strip(), "-j", "0",
                    *job["args"], job["data"]]
        said = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(said):
            main_lincls.main()
        epochs = [[float(value) / 100 for value in values] for values in RESULT.findall(said.getvalue())]
        if "sanity check passed" not in said.getvalue():
            sys.exit("upstream did not check its frozen weights:\n" + said.getvalue()[-2000:])
        print(json.dumps({"acc1": epochs[-1][0], "acc5": epochs[-1][1], "epochs": [acc1 for acc1, _ in epochs]}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
