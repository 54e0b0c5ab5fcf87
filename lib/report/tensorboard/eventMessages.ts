import protobuf from "protobufjs/minimal.js";
import type { Histogram, LoggedPicture } from "../logger.js";
import type { Scalar } from "../scalars.js";

/**
 * TensorBoard's messages as protocol buffers: `Event`, `Summary` and what its hparams page reads. Of their fields only those that are written
 * are here, by their numbers.
 */

const { Writer } = protobuf;
type Writer = protobuf.Writer;
type Fill = (writer: Writer) => void;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const tag = (field: number, wireType: number): number => (field << 3) | wireType;

const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const;
const SESSION_LOG = { status: 1 } as const;
const SESSION_START = 1;
const SUMMARY_VALUE = 1;
const VALUE = { tag: 1, simpleValue: 2, image: 4, histogram: 5, tensor: 8, metadata: 9 } as const;
const IMAGE = { height: 1, width: 2, colorspace: 3, encoded: 4 } as const;
const RGB = 3;
const HISTOGRAM = { min: 1, max: 2, num: 3, sum: 4, sumSquares: 5, limit: 6, bucket: 7 } as const;
const METADATA = { pluginData: 1, dataClass: 4 } as const;
const DATA_CLASS_TENSOR = 2;
const PLUGIN = { name: 1, content: 2 } as const;
const TENSOR = { dtype: 1, shape: 2, stringVal: 8 } as const;
const [DT_FLOAT, DT_STRING] = [1, 7];
const SHAPE_DIM = 2;
const DIM_SIZE = 1;
const HPARAMS = { sessionStart: 3, sessionEnd: 4 } as const;
const START = { hparams: 1, seconds: 5 } as const;
const END = { status: 1, seconds: 2 } as const;
const [MAP_KEY, MAP_VALUE] = [1, 2];
/** Of `google.protobuf.Value`. */
const ANY = { number: 2, string: 3, bool: 4 } as const;

/** How a run ended, as the hparams page has it. */
const sessionStatus = { success: 1, failure: 2 } as const;
export type SessionStatus = keyof typeof sessionStatus;

/** What an event is about: its step, and the time in seconds since 1970. */
export interface EventHead {
  wallTime: number;
  step: number;
}

/** First event of a file. */
export function fileVersionEvent(head: EventHead): Uint8Array {
  return event(head, (writer) => writer.uint32(tag(EVENT.fileVersion, BYTES)).string("brain.Event:2"));
}

/** Tells that a run goes on with this step: TensorBoard drops what earlier files have of it and later ones. */
export function sessionStartEvent(head: EventHead): Uint8Array {
  return event(head, (writer) => {
    message(writer, EVENT.sessionLog, () => writer.uint32(tag(SESSION_LOG.status, VARINT)).int32(SESSION_START));
  });
}

/** All numbers of a step. */
export function scalarsEvent(head: EventHead, scalars: readonly Scalar[]): Uint8Array {
  return summaryEvent(head, scalars.map(({ tag: name, value }) => summaryValue(name, (writer) => {
    writer.uint32(tag(VALUE.simpleValue, FIXED32)).float(value);
  })));
}

export function imageEvent(head: EventHead, name: string, { png, width, height }: LoggedPicture): Uint8Array {
  return summaryEvent(head, [summaryValue(name, (writer) => message(writer, VALUE.image, () => {
    for (const [field, value] of [[IMAGE.height, height], [IMAGE.width, width], [IMAGE.colorspace, RGB]] as const) {
      writer.uint32(tag(field, VARINT)).int32(value);
    }
    writer.uint32(tag(IMAGE.encoded, BYTES)).bytes(png);
  }))]);
}

export function histogramEvent(head: EventHead, name: string, { min, max, count, sum, sumOfSquares, limits, counts }: Histogram): Uint8Array {
  return summaryEvent(head, [summaryValue(name, (writer) => message(writer, VALUE.histogram, () => {
    const moments = [
      [HISTOGRAM.min, min], [HISTOGRAM.max, max], [HISTOGRAM.num, count], [HISTOGRAM.sum, sum], [HISTOGRAM.sumSquares, sumOfSquares],
    ] as const;
    for (const [field, value] of moments) writer.uint32(tag(field, FIXED64)).double(value);
    for (const [field, values] of [[HISTOGRAM.limit, limits], [HISTOGRAM.bucket, counts]] as const) {
      message(writer, field, () => values.forEach((value) => writer.double(value))); // packed
    }
  }))]);
}

/** @param text Markdown */
export function textEvent(head: EventHead, name: string, text: string): Uint8Array {
  return summaryEvent(head, [summaryValue(name, (writer) => {
    metadata(writer, "text", new Uint8Array());
    message(writer, VALUE.tensor, () => {
      writer.uint32(tag(TENSOR.dtype, VARINT)).int32(DT_STRING);
      message(writer, TENSOR.shape, () => message(writer, SHAPE_DIM, () => writer.uint32(tag(DIM_SIZE, VARINT)).int64(1)));
      writer.uint32(tag(TENSOR.stringVal, BYTES)).string(text);
    });
  })]);
}

/** The options of a run, for the hparams page. */
export function hparamsEvent(head: EventHead, options: readonly (readonly [name: string, value: string | number | boolean])[]): Uint8Array {
  return hparamsContent(head, "_hparams_/session_start_info", HPARAMS.sessionStart, (writer) => {
    for (const [name, value] of options) {
      message(writer, START.hparams, () => {
        writer.uint32(tag(MAP_KEY, BYTES)).string(name);
        message(writer, MAP_VALUE, () => {
          if (typeof value === "number") writer.uint32(tag(ANY.number, FIXED64)).double(value);
          else if (typeof value === "string") writer.uint32(tag(ANY.string, BYTES)).string(value);
          else writer.uint32(tag(ANY.bool, VARINT)).bool(value);
        });
      });
    }
    writer.uint32(tag(START.seconds, FIXED64)).double(head.wallTime);
  });
}

export function sessionEndEvent(head: EventHead, status: SessionStatus): Uint8Array {
  return hparamsContent(head, "_hparams_/session_end_info", HPARAMS.sessionEnd, (writer) => {
    writer.uint32(tag(END.status, VARINT)).int32(sessionStatus[status]);
    writer.uint32(tag(END.seconds, FIXED64)).double(head.wallTime);
  });
}

function hparamsContent(head: EventHead, name: string, field: number, fill: Fill): Uint8Array {
  const content = Writer.create();
  message(content, field, () => fill(content));
  const bytes = content.finish();
  return summaryEvent(head, [summaryValue(name, (writer) => {
    metadata(writer, "hparams", bytes);
    // A tensor without values: TensorBoard passes over a summary that has none.
    message(writer, VALUE.tensor, () => {
      writer.uint32(tag(TENSOR.dtype, VARINT)).int32(DT_FLOAT);
      message(writer, TENSOR.shape, () => undefined);
    });
  })]);
}

function event({ wallTime, step }: EventHead, fill: Fill): Uint8Array {
  const writer = Writer.create().uint32(tag(EVENT.wallTime, FIXED64)).double(wallTime);
  if (step !== 0) writer.uint32(tag(EVENT.step, VARINT)).int64(step);
  fill(writer);
  return writer.finish();
}

function summaryEvent(head: EventHead, values: readonly Fill[]): Uint8Array {
  return event(head, (writer) => message(writer, EVENT.summary, () => {
    for (const fill of values) message(writer, SUMMARY_VALUE, () => fill(writer));
  }));
}

function summaryValue(name: string, fill: Fill): Fill {
  return (writer) => {
    writer.uint32(tag(VALUE.tag, BYTES)).string(name);
    fill(writer);
  };
}

function metadata(writer: Writer, plugin: string, content: Uint8Array): void {
  message(writer, VALUE.metadata, () => {
    message(writer, METADATA.pluginData, () => {
      writer.uint32(tag(PLUGIN.name, BYTES)).string(plugin);
      writer.uint32(tag(PLUGIN.content, BYTES)).bytes(content);
    });
    writer.uint32(tag(METADATA.dataClass, VARINT)).int32(DATA_CLASS_TENSOR);
  });
}

/** A field that is a message itself, or a packed list. */
function message(writer: Writer, field: number, fill: () => void): void {
  writer.uint32(tag(field, BYTES)).fork();
  fill();
  writer.ldelim();
}
