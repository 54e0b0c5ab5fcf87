"""The comparison's k nearest neighbours in PyTorch: features of upstream's class, and the weighted vote.

    python knn.py '{"upstream": "...", "data": "...", "checkpoint": "...", "encoder": {...}, "ks": [5, 20], "temperature": 0.07, "features": "...", "threads": 1}'

Writes the features float32 [N, D] of the images, `train` then `val`, each part in the order of its classes and names, to the file
`features`. Answers a line of input with a line of JSON: the labels of both parts, the accuracy for each k, and how many votes were as good as
tied.
"""
import json
import sys
import warnings

warnings.filterwarnings("ignore")

import torch
from torch.utils.data import DataLoader

from encoder import evaluation_images, load_backbone, sizes_of, use_upstream

TIE = 1e-4  # two classes' votes this close, relative to the winner's, may change places by rounding


@torch.no_grad()
def features_of(model, images):
    parts = [(model.forward_features(batch), labels) for batch, labels in DataLoader(images, batch_size=256)]
    return torch.cat([features for features, _ in parts]), torch.cat([labels for _, labels in parts])


def vote(queries, gallery, labels, classes, k, temperature):
    normalize = torch.nn.functional.normalize
    similarity, neighbour = (normalize(queries) @ normalize(gallery).T).topk(k)
    weights = torch.exp(similarity / temperature)
    return torch.nn.functional.one_hot(labels[neighbour], classes).mul(weights.unsqueeze(-1)).sum(1)


def main(job):
    use_upstream(job["upstream"])
    torch.set_num_threads(job["threads"])
    import vits

    model = load_backbone(vits.VisionTransformerMoCo(num_classes=0, **sizes_of(job["encoder"])), job["checkpoint"]).eval()
    size = job["encoder"]["imageSize"]
    train, val = (evaluation_images(job["data"], part, size) for part in ("train", "val"))
    (gallery, labels), (queries, truth) = features_of(model, train), features_of(model, val)
    with open(job["features"], "wb") as file:
        file.write(torch.cat([gallery, queries]).numpy().astype("<f4").tobytes())
    accuracy, ties = {}, {}
    for k in job["ks"]:
        votes = vote(queries, gallery, labels, len(train.classes), k, job["temperature"])
        best = votes.topk(2).values
        accuracy[k] = (votes.argmax(1) == truth).double().mean().item()
        ties[k] = (best[:, 1] > best[:, 0] * (1 - TIE)).sum().item()
    print(json.dumps({"accuracy": accuracy, "ties": ties, "trainLabels": labels.tolist(), "valLabels": truth.tolist()}), flush=True)


if __name__ == "__main__":
    for _ in sys.stdin:
        main(json.loads(sys.argv[1]))
