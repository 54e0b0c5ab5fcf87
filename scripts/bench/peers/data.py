"""Python's side of the data benchmark: torchvision's transforms of PIL images. Each line of input is one request in JSON."""
import json
import multiprocessing
import os
import random
import resource
import sys
import time

import PIL
import PIL.features
import torch
import torchvision
from PIL import Image, ImageEnhance, ImageFilter
from torch.utils.data import DataLoader, default_collate
from torchvision import datasets, transforms

torch.set_num_threads(1)
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
stages = dict.fromkeys(["decode", "crop", "colour", "blur", "normalise"], 0.0)


class Timed:
    """A part of the pipeline whose time counts towards a stage. The clock costs 0.2 us, the quickest part 5 us."""

    def __init__(self, stage, part):
        self.stage, self.part = stage, part

    def __call__(self, value):
        start = time.perf_counter()
        result = self.part(value)
        stages[self.stage] += time.perf_counter() - start
        return result


def our_parts(recipe):
    """Blur and solarize from PIL's and torchvision's public functions, where there is no checkout of upstream."""
    sharpest, softest = recipe["blurSigma"]
    blur = transforms.Lambda(lambda image: image.filter(ImageFilter.GaussianBlur(random.uniform(sharpest, softest))))
    return blur, transforms.RandomSolarize(recipe["solarizeThreshold"], p=1)


def upstream_parts(recipe):
    import moco.loader

    return moco.loader.GaussianBlur(recipe["blurSigma"]), moco.loader.Solarize()


def view(recipe, size, parts):
    """The transforms of one view, in the method's order."""
    blur, solarize = parts(recipe)
    strengths = [recipe[name] for name in ("brightness", "contrast", "saturation", "hue")]
    steps = [
        ("crop", transforms.RandomResizedCrop(size, scale=recipe["cropScale"], ratio=recipe["cropRatio"])),
        ("colour", transforms.RandomApply([transforms.ColorJitter(*strengths)], p=recipe["jitterProbability"])),
        ("colour", transforms.RandomGrayscale(p=recipe["grayscaleProbability"])),
        ("blur", transforms.RandomApply([blur], p=recipe["blurProbability"])),
    ]
    if recipe["solarizeProbability"] > 0:
        steps.append(("colour", transforms.RandomApply([solarize], p=recipe["solarizeProbability"])))
    steps += [
        ("normalise", transforms.RandomHorizontalFlip(p=recipe["flipProbability"])),
        ("normalise", transforms.ToTensor()),
        ("normalise", transforms.Normalize(**IMAGENET)),
    ]
    return transforms.Compose([Timed(*step) for step in steps])


class Repeated(torch.utils.data.Sampler):
    """The files over and over, `images` in all, in a random order each time round."""

    def __init__(self, files):
        self.files, self.images = files, files

    def __iter__(self):
        for start in range(0, self.images, self.files):
            yield from torch.randperm(self.files).tolist()[: self.images - start]

    def __len__(self):
        return self.images


def open_loader(settings):
    """The loader and its sampler. Without workers everything happens in this process, which spares it the way between processes."""
    parts, both = our_parts, lambda first, second: lambda image: [first(image), second(image)]
    if settings["upstream"] is not None:
        sys.path.insert(0, settings["upstream"])
        import moco.loader

        parts, both = upstream_parts, moco.loader.TwoCropsTransform
    pair = both(*(view(recipe, settings["imageSize"], parts) for recipe in settings["recipes"]))
    images = datasets.ImageFolder(settings["folder"], pair, loader=Timed("decode", datasets.folder.default_loader))
    sampler = Repeated(len(images))
    workers = settings["workers"]
    loader = DataLoader(
        images, settings["batch"], sampler=sampler, num_workers=workers, drop_last=True,
        collate_fn=Timed("normalise", default_collate), persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers > 0 else None, pin_memory=settings.get("device", "cpu").startswith("cuda"),
    )
    return loader, sampler


def cpu_seconds():
    """Of this process and its living workers."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    for child in multiprocessing.active_children():
        with open(f"/proc/{child.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def memory():
    """Bytes of this process and its workers; what they share counts once."""
    total = 0
    for pid in [os.getpid()] + [child.pid for child in multiprocessing.active_children()]:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            total += next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024
    return total


def load(loader, sampler, images, watch_memory):
    sampler.images = images
    for stage in stages:
        stages[stage] = 0.0
    samples, loaded = [], 0
    before, start = cpu_seconds(), time.perf_counter()
    for views, _ in loader:
        loaded += len(views[0])
        if watch_memory:
            samples.append([loaded, memory()])
    return {
        "images": loaded, "seconds": time.perf_counter() - start, "cpuSeconds": cpu_seconds() - before,
        "stages": stages, "memory": samples,
    }


def make_files(photos, folder, count):
    """JPEGs of 500 x 375 pixels, quality 90: parts of photographs near their own resolution, some flipped, all lighter or darker."""
    draw = random.Random(0)
    originals = [Image.open(path).convert("RGB") for path in photos]
    os.makedirs(os.path.join(folder, "all"))
    total = 0
    for number in range(count):
        photo = originals[number % len(originals)]
        height = draw.uniform(375, photo.height)
        width = height * 4 / 3
        left, top = draw.uniform(0, photo.width - width), draw.uniform(0, photo.height - height)
        image = photo.resize((500, 375), Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))
        if draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = ImageEnhance.Brightness(image).enhance(draw.uniform(0.8, 1.2))
        path = os.path.join(folder, "all", f"{number:05d}.jpg")
        image.save(path, quality=90)
        total += os.path.getsize(path)
    versions = {
        "torchvision": torchvision.__version__, "pillow": PIL.__version__, "libjpegTurbo": PIL.features.version("libjpeg_turbo"),
    }
    return {"meanBytes": total / count, "versions": versions}


def main():
    settings = json.loads(sys.argv[1])
    opened = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "make":
            answer = make_files(request["photos"], settings["folder"], request["files"])
        else:
            opened = opened or open_loader(settings)
            answer = load(*opened, request["images"], request["watchMemory"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
