"""Encoders of the comparison as upstream's classes and timm 0.4.9 build them, and how they see images."""
import functools
import os
import sys

import torch
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

NORMALIZE = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
PREFIX = "module.base_encoder."


def use_upstream(folder):
    """Makes upstream's modules importable; they need timm 0.4.9."""
    sys.path.insert(0, folder)


def sizes_of(sizes):
    """Keyword arguments of timm's VisionTransformer, as upstream gives them."""
    import vits

    stem = {"embed_layer": vits.ConvStem} if sizes["stem"] == "conv" else {}
    return dict(
        img_size=sizes["imageSize"], patch_size=sizes["patchSize"], embed_dim=sizes["embedDim"], depth=sizes["depth"],
        num_heads=sizes["numHeads"], mlp_ratio=4, qkv_bias=True, norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6), **stem,
    )


def backbone_of(checkpoint):
    """The base encoder's weights without its projector, under the names that a ViT has for them."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {key[len(PREFIX):]: value for key, value in state.items() if key.startswith(PREFIX) and not key.startswith(PREFIX + "head")}


def load_backbone(model, checkpoint):
    missing, unexpected = model.load_state_dict(backbone_of(checkpoint), strict=False)
    if unexpected or not set(missing) <= {"head.weight", "head.bias"}:
        sys.exit(f"{checkpoint} does not fit: missing {missing}, unexpected {unexpected}")
    return model


def evaluation_images(data, part, image_size, bicubic=False):
    """An image folder's part as it is judged: the shorter side resized to 8/7 of the input, and the centre."""
    how = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    return datasets.ImageFolder(os.path.join(data, part), transforms.Compose([
        transforms.Resize(round(image_size * 8 / 7), interpolation=how), transforms.CenterCrop(image_size), transforms.ToTensor(), NORMALIZE,
    ]))
