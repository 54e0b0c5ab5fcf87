"""Prints what TensorBoard's own reader finds in a folder, as JSON."""
import json
import sys

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.util import tensor_util

events = event_accumulator.EventAccumulator(sys.argv[1], size_guidance={kind: 0 for kind in ("scalars", "images", "histograms", "tensors")})
events.Reload()
tags = events.Tags()

hparams, status = {}, None
for tag, content in events.summary_metadata.items():
    if content.plugin_data.plugin_name != "hparams":
        continue
    data = plugin_data_pb2.HParamsPluginData.FromString(content.plugin_data.content)
    if data.HasField("session_start_info"):
        hparams = {key: getattr(value, value.WhichOneof("kind")) for key, value in data.session_start_info.hparams.items()}
    if data.HasField("session_end_info"):
        status = api_pb2.Status.Name(data.session_end_info.status)

texts = {
    tag: [[each.step, tensor_util.make_ndarray(each.tensor_proto).item().decode()] for each in events.Tensors(tag)]
    for tag in tags["tensors"]
    if events.SummaryMetadata(tag).plugin_data.plugin_name == "text"
}
print(json.dumps({
    "scalars": {tag: [[each.step, each.value] for each in events.Scalars(tag)] for tag in tags["scalars"]},
    "images": {
        tag: [[each.step, each.width, each.height, each.encoded_image_string[:8] == b"\x89PNG\r\n\x1a\n"] for each in events.Images(tag)]
        for tag in tags["images"]
    },
    "histograms": {
        tag: [
            [each.step, h.min, h.max, h.num, h.sum, list(h.bucket_limit), list(h.bucket)]
            for each in events.Histograms(tag)
            for h in [each.histogram_value]
        ]
        for tag in tags["histograms"]
    },
    "texts": texts,
    "hparams": hparams,
    "status": status,
}))
