"""The comparison's fine-tuning in PyTorch: timm 0.4.9's classes, put together as DeiT's recipe does it.

    python finetune.py '{"upstream": "...", "data": "...", "checkpoint": "...", "encoder": {...}, "recipe": {...}, "threads": 1}'

The model is timm's VisionTransformer, whose subclass upstream pre-trains, with positions that learn and a new head. For each line of input, a
seed, it trains one and answers with a line of JSON.
"""
import functools
import json
import math
import os
import random
import sys
import warnings

warnings.filterwarnings("ignore")

import numpy
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader
from torchvision import datasets

from encoder import evaluation_images, load_backbone, sizes_of, use_upstream


def posterize(image, bits, posterize=ImageOps.posterize):
    """RandAugment's strongest posterisation keeps no bit at all, which gave black with the Pillow of its time and is an error today."""
    return posterize(image, bits) if bits > 0 else Image.new(image.mode, image.size)


def learning_rate(progress, recipe):
    """At `progress` epochs: linear from the warm-up's rate, then the cosine down to the least rate."""
    if progress < recipe["warmupEpochs"]:
        return recipe["warmupLr"] + (recipe["lr"] - recipe["warmupLr"]) * progress / recipe["warmupEpochs"]
    return recipe["minLr"] + (recipe["lr"] - recipe["minLr"]) * 0.5 * (1 + math.cos(math.pi * progress / recipe["epochs"]))


def parameter_groups(model, weight_decay):
    """Decay for matrices; none for biases, norms, class token and positions."""
    without = model.no_weight_decay()
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[parameter.ndim > 1 and name not in without].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]


@torch.no_grad()
def accuracy(model, images):
    model.eval()
    right = sum((model(batch).argmax(1) == labels).sum().item() for batch, labels in DataLoader(images, batch_size=256))
    return right / len(images)


def train(job, seed):
    import timm.data.mixup
    from timm.data import create_transform
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
    from timm.models.vision_transformer import VisionTransformer

    ImageOps.posterize = posterize
    timm.data.mixup.mixup_target = functools.partial(MIXUP_TARGET, device="cpu")
    recipe, size = job["recipe"], job["encoder"]["imageSize"]
    torch.manual_seed(seed)
    numpy.random.seed(seed)
    random.seed(seed)
    augment = create_transform(
        input_size=size, is_training=True, color_jitter=recipe["colorJitter"], auto_augment=recipe["autoAugment"] or None, interpolation="bicubic",
        re_prob=recipe["erasing"], re_mode="pixel", re_count=1,
    )
    images = datasets.ImageFolder(os.path.join(job["data"], "train"), augment)
    judged = evaluation_images(job["data"], "val", size, bicubic=True)
    model = VisionTransformer(num_classes=len(images.classes), drop_path_rate=recipe["dropPath"], **sizes_of(job["encoder"]))
    load_backbone(model, job["checkpoint"])

    mixes = recipe["mixup"] > 0 or recipe["cutmix"] > 0
    mix = timm.data.mixup.Mixup(
        mixup_alpha=recipe["mixup"], cutmix_alpha=recipe["cutmix"], label_smoothing=recipe["smoothing"], num_classes=len(images.classes),
    ) if mixes else None
    criterion = SoftTargetCrossEntropy() if mixes else LabelSmoothingCrossEntropy(recipe["smoothing"])
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe["weightDecay"]), lr=recipe["lr"])
    loader = DataLoader(images, batch_size=recipe["batchSize"], shuffle=True, drop_last=True)
    epochs = []
    for epoch in range(recipe["epochs"]):
        model.train()
        for step, (batch, labels) in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch + step / len(loader), recipe)
            if mix is not None:
                batch, labels = mix(batch, labels)
            loss = criterion(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epochs.append(accuracy(model, judged))
    return {"acc1": epochs[-1], "epochs": epochs, "loss": loss.item()}


def main(job):
    global MIXUP_TARGET
    use_upstream(job["upstream"])
    torch.set_num_threads(job["threads"])
    from timm.data.mixup import mixup_target as MIXUP_TARGET

    for seed in sys.stdin:
        print(json.dumps(train(job, int(seed))), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
