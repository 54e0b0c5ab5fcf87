#include "jpegDecoder.h"

#include "imageError.h"

#ifdef MOCO_WITH_JPEG

// libjpeg-turbo's header needs size_t and FILE.
#include <cstdio>
// ... and in some versions does not say that it is C.
extern "C" {
#include <jpeglib.h>
}
#include <jerror.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>

#include "convert.h"
#include "jpegSegments.h"
#include "orientation.h"

// libjpeg reports errors by a callback that must not return. It is C, which exceptions must not
// cross: the callback jumps back to `State::attempt`, over C functions and steps that hold nothing
// to destroy.

namespace moco::image {
namespace {

// PIL's: twice its MAX_IMAGE_PIXELS.
constexpr int64_t kMaxPixels = 178956970;
// Each scan of a progressive file visits each block, in a few nanoseconds, even when the scan
// itself takes a few bytes of the file. A picture of 8 megapixels may have 2,000 scans.
constexpr int64_t kMaxBlockVisits = 400'000'000;
constexpr size_t kHugeBytes = 64 << 20;
// A crop this narrow would make libjpeg upsample without interpolation.
constexpr int kMinColumns = 64;
constexpr int kInkRows = 16;
constexpr int kCoefficientBytes = 64 * sizeof(JCOEF);

#define MOCO_QUOTE(text) #text
#define MOCO_QUOTE_VALUE(macro) MOCO_QUOTE(macro)
constexpr const char* kVersion = "libjpeg-turbo " MOCO_QUOTE_VALUE(LIBJPEG_TURBO_VERSION);

// libjpeg's own table is in an object of its static library that a shared object cannot contain.
#define JCOPYRIGHT ""  // another version's name of it
#define JCOPYRIGHT_SHORT ""
#define JVERSION ""
#define JMESSAGE(code, text) text,
const char* const kMessages[] = {
#include <jerror.h>
};

std::mutex hugeImages;

enum class Failure { kLibrary, kTruncated, kScans };

// Whether the data of a single scan ends with an end-of-image marker, with restart markers at most
// before it. Then libjpeg can neither run out of data nor meet a faulty segment, wherever it stops.
bool endsOrderly(const uint8_t* at, size_t length) {
  const uint8_t* const end = at + length;
  while (at < end &&
         (at = static_cast<const uint8_t*>(std::memchr(at, 0xff, end - at))) != nullptr) {
    while (at < end && *at == 0xff) ++at;
    if (at == end) return false;
    const uint8_t marker = *at++;
    if (marker != 0 && (marker & 0xf8) != 0xd0) return marker == JPEG_EOI;
  }
  return false;
}

// The frame type (0xc0 to 0xcf), or 0.
uint8_t frameType(const uint8_t* bytes, size_t length) {
  uint8_t type = 0;
  visitSegments(bytes, length, [&](uint8_t marker, const uint8_t*, size_t) {
    const bool isTable = marker == 0xc4 || marker == 0xc8 || marker == 0xcc;
    if (marker >= 0xc0 && marker <= 0xcf && !isTable) type = marker;
    return type == 0;
  });
  return type;
}

std::string hexadecimal(int value) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%02x", value);
  return text;
}

}  // namespace

struct JpegDecoder::State {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf escape;
  Failure failure = Failure::kLibrary;
  bool created = false;
  bool opened = false;
  bool started = false;
  bool wholeScan = false;  // only decoding all of it tells whether the file is good
  int orientation = kUpright;
  int64_t maxScans = 0;
  std::vector<JSAMPROW> rows;
  std::vector<uint8_t> ink;
  std::vector<uint8_t> stored;
  Box box;

  State();
  ~State() { close(); }

  // A new libjpeg object for each image costs a microsecond. One that is used again would keep the
  // tables of the image before, and lend them to one that lacks its own.
  void create();
  void close();

  static State& of(j_common_ptr info) { return *static_cast<State*>(info->client_data); }

  [[noreturn]] void fail(Failure reason) {
    failure = reason;
    std::longjmp(escape, 1);
  }

  // Runs a step, which must hold nothing to destroy while it calls libjpeg.
  template <typename Step>
  bool attempt(Step step) {
    static_assert(std::is_trivially_destructible_v<Step>);
    if (setjmp(escape) != 0) return false;
    step();
    return true;
  }
  template <typename Step>
  void require(Step step) {
    if (!attempt(step)) throwFailure();
  }

  [[noreturn]] void throwFailure();
  std::string libraryMessage() const;
  int64_t blocks() const;
  bool isSmoothed() const;
  void readRows(uint8_t* pixels, size_t stride);
};

JpegDecoder::State::State() {
  std::memset(&info, 0, sizeof info);
  std::memset(&errors, 0, sizeof errors);
  std::memset(&source, 0, sizeof source);
  std::memset(&progress, 0, sizeof progress);

  errors.error_exit = [](j_common_ptr common) { of(common).fail(Failure::kLibrary); };
  errors.emit_message = [](j_common_ptr common, int level) {
    if (level < 0) ++common->err->num_warnings;
  };
  errors.output_message = [](j_common_ptr) {};
  errors.format_message = [](j_common_ptr, char* text) { *text = '\0'; };
  errors.reset_error_mgr = [](j_common_ptr common) {
    common->err->num_warnings = 0;
    common->err->msg_code = 0;
  };
  errors.jpeg_message_table = kMessages;
  errors.last_jpeg_message = static_cast<int>(std::size(kMessages)) - 1;

  source.init_source = [](j_decompress_ptr) {};
  source.term_source = [](j_decompress_ptr) {};
  source.resync_to_restart = jpeg_resync_to_restart;
  source.fill_input_buffer = [](j_decompress_ptr from) -> boolean {
    of(reinterpret_cast<j_common_ptr>(from)).fail(Failure::kTruncated);
  };
  source.skip_input_data = [](j_decompress_ptr from, long count) {
    if (count <= 0) return;
    jpeg_source_mgr& input = *from->src;
    if (static_cast<size_t>(count) > input.bytes_in_buffer) {
      of(reinterpret_cast<j_common_ptr>(from)).fail(Failure::kTruncated);
    }
    input.next_input_byte += count;
    input.bytes_in_buffer -= static_cast<size_t>(count);
  };

  progress.progress_monitor = [](j_common_ptr common) {
    State& state = of(common);
    if (state.info.input_scan_number > state.maxScans) state.fail(Failure::kScans);
  };
}

void JpegDecoder::State::close() {
  if (created) jpeg_destroy_decompress(&info);
  created = opened = started = false;
}

void JpegDecoder::State::create() {
  close();
  info.err = &errors;
  info.client_data = this;
  require([this] { jpeg_create_decompress(&info); });
  created = true;
  info.src = &source;
  info.progress = &progress;
}

void JpegDecoder::State::throwFailure() {
  const std::string scan = std::to_string(info.input_scan_number);
  const unsigned int row = info.output_scanline;
  const bool headerOnly = !opened;
  const std::string problem = failure == Failure::kLibrary ? libraryMessage() : "";
  const bool wasStarted = started;
  const int64_t blockCount = failure == Failure::kScans ? blocks() : 0;
  const unsigned int height = info.image_height;
  close();
  if (failure == Failure::kScans) {
    throw ImageError("more than " + std::to_string(maxScans) + " scans of " +
                     std::to_string(blockCount) + " blocks each: more work than the limit of " +
                     std::to_string(kMaxBlockVisits) + " blocks");
  }
  if (failure == Failure::kLibrary) throw ImageError(problem);
  if (headerOnly) throw ImageError("truncated JPEG: it ends within its header");
  if (!wasStarted) throw ImageError("truncated JPEG: it ends within scan " + scan);
  throw ImageError("truncated JPEG: it ends after " + std::to_string(row) + " of " +
                   std::to_string(height) + " rows");
}

std::string JpegDecoder::State::libraryMessage() const {
  const int code = errors.msg_code;
  if (code == JERR_OUT_OF_MEMORY) return "not enough memory to decode it";
  const bool isKnown = code > 0 && code <= errors.last_jpeg_message;
  const char* format = kMessages[isKnown ? code : 0];
  char text[JMSG_LENGTH_MAX];
  const auto& numbers = errors.msg_parm.i;
  if (std::strstr(format, "%s") != nullptr) {
    std::snprintf(text, sizeof text, format, errors.msg_parm.s);
  } else {
    std::snprintf(text, sizeof text, format, numbers[0], numbers[1], numbers[2], numbers[3],
                  numbers[4], numbers[5], numbers[6], numbers[7]);
  }
  return std::string("corrupt JPEG: ") + text;
}

int64_t JpegDecoder::State::blocks() const {
  int64_t total = 0;
  for (int i = 0; i < info.num_components; ++i) {
    const jpeg_component_info& component = info.comp_info[i];
    total += int64_t{component.width_in_blocks} * component.height_in_blocks;
  }
  return total;
}

// Whether libjpeg may smooth blocks of a progressive file whose low frequencies are incomplete;
// this looks at blocks beyond a crop.
bool JpegDecoder::State::isSmoothed() const {
  if (info.coef_bits == nullptr) return false;
  constexpr int kLowFrequencies = 10;
  for (int i = 0; i < info.num_components; ++i) {
    for (int j = 0; j < kLowFrequencies; ++j) {
      if (info.coef_bits[i][j] != 0) return true;
    }
  }
  return false;
}

void JpegDecoder::State::readRows(uint8_t* pixels, size_t stride) {
  const auto height = static_cast<JDIMENSION>(box.height);
  const auto width = static_cast<size_t>(box.width);
  const bool isInk = info.out_color_space == JCS_CMYK;
  const JDIMENSION rowsAtOnce = isInk ? std::min<JDIMENSION>(kInkRows, height) : height;
  rows.resize(rowsAtOnce);
  if (isInk) ink.resize(4 * width * kInkRows);
  for (JDIMENSION i = 0; i < rowsAtOnce; ++i) {
    rows[i] = isInk ? ink.data() + 4 * width * i : pixels + stride * i;
  }
  require([this, pixels, stride, height, width, isInk] {
    JSAMPROW* into = rows.data();
    for (JDIMENSION done = 0; done < height;) {
      const JDIMENSION wanted =
          isInk ? std::min<JDIMENSION>(kInkRows, height - done) : height - done;
      const JDIMENSION got = jpeg_read_scanlines(&info, isInk ? into : into + done, wanted);
      if (got == 0) fail(Failure::kTruncated);
      for (JDIMENSION i = 0; isInk && i < got; ++i) {
        // PIL takes all four-component files for Adobe's, which hold what is left of the light.
        for (size_t j = 0; j < 4 * width; ++j) into[i][j] = static_cast<uint8_t>(255 - into[i][j]);
        cmykToRgb(into[i], width, pixels + stride * (done + i));
      }
      done += got;
    }
  });
}

JpegDecoder::JpegDecoder() : state(std::make_unique<State>()) {}

JpegDecoder::Info JpegDecoder::open(const uint8_t* bytes, size_t length, bool honourOrientation) {
  State& s = *state;
  s.close();
  if (!looksLikeJpeg(bytes, length)) throw ImageError("not a JPEG");
  // Frame types beyond these are lossless or differential.
  const uint8_t type = frameType(bytes, length);
  if (type != 0 && type > 0xc2 && type != 0xc9 && type != 0xca) {
    throw ImageError("a lossless or hierarchical JPEG (frame type " + hexadecimal(type) +
                     "), which is not supported");
  }

  s.create();
  s.source.next_input_byte = bytes;
  s.source.bytes_in_buffer = length;
  // Tables may come before the image, as a stream of their own.
  s.require([&s] {
    while (jpeg_read_header(&s.info, FALSE) == JPEG_HEADER_TABLES_ONLY) {
    }
  });

  const auto width = static_cast<int>(s.info.image_width);
  const auto height = static_cast<int>(s.info.image_height);
  if (s.info.data_precision != 8) {
    throw ImageError("a JPEG of " + std::to_string(s.info.data_precision) +
                     " bits per sample; only 8 are supported");
  }
  const int components = s.info.num_components;
  if (components != 1 && components != 3 && components != 4) {
    throw ImageError("a JPEG of " + std::to_string(components) +
                     " colour components; 1, 3 and 4 are supported");
  }
  if (int64_t{width} * height > kMaxPixels) {
    throw ImageError(std::to_string(width) + " x " + std::to_string(height) +
                     " pixels, more than the limit of " + std::to_string(kMaxPixels));
  }

  s.info.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
  s.info.dct_method = JDCT_ISLOW;
  s.maxScans = std::max<int64_t>(1, kMaxBlockVisits / std::max<int64_t>(1, s.blocks()));
  s.wholeScan = !jpeg_has_multiple_scans(&s.info) &&
                !endsOrderly(s.source.next_input_byte, s.source.bytes_in_buffer);
  s.orientation = honourOrientation ? readOrientation(bytes, length) : kUpright;
  s.opened = true;
  return swapsSides(s.orientation) ? Info{height, width} : Info{width, height};
}

void JpegDecoder::decode(const Box& wanted, Region& out) {
  State& s = *state;
  if (!s.opened) throw std::logic_error("no JPEG is open");
  const auto width = static_cast<int>(s.info.image_width);
  const auto height = static_cast<int>(s.info.image_height);
  const Box whole{0, 0, height, width};
  s.box = storedBox(wanted, s.orientation, width, height);
  if (s.box.top < 0 || s.box.left < 0 || s.box.height < 1 || s.box.width < 1 ||
      s.box.height > height - s.box.top || s.box.width > width - s.box.left) {
    throw std::logic_error("the box is not within the picture");
  }
  const bool hasScans = jpeg_has_multiple_scans(&s.info);
  if (s.wholeScan) s.box = whole;

  const size_t coefficients =
      hasScans ? static_cast<size_t>(s.blocks()) * static_cast<size_t>(kCoefficientBytes) : 0;
  const size_t pixels = static_cast<size_t>(s.box.height) * static_cast<size_t>(s.box.width) * 3;
  std::unique_lock<std::mutex> gate(hugeImages, std::defer_lock);
  if (pixels + coefficients > kHugeBytes) gate.lock();

  // Reads all scans of a file that has several.
  s.require([&s] { jpeg_start_decompress(&s.info); });
  s.started = true;
  if (s.isSmoothed()) s.box = whole;
  if (s.box.width < width) {
    // Interpolation of colour at the cut edges lacks a neighbour: a few more columns keep these out
    // of the box.
    const int margin = 2 * s.info.max_h_samp_factor;
    const int left = std::max(0, s.box.left - margin);
    const int right =
        std::min(width, std::max(s.box.left + s.box.width + margin, left + kMinColumns));
    JDIMENSION from = static_cast<JDIMENSION>(std::max(0, std::min(left, right - kMinColumns)));
    JDIMENSION columns = static_cast<JDIMENSION>(right) - from;
    if (columns < s.info.output_width) {
      s.require([&s, &from, &columns] { jpeg_crop_scanline(&s.info, &from, &columns); });
    }
    s.box.left = static_cast<int>(from);
    s.box.width = static_cast<int>(columns);
  }
  if (s.box.top > 0) {
    s.require([&s] { jpeg_skip_scanlines(&s.info, static_cast<JDIMENSION>(s.box.top)); });
  }

  const size_t stride = static_cast<size_t>(s.box.width) * 3;
  const size_t size = stride * static_cast<size_t>(s.box.height);
  const bool isTurned = s.orientation != kUpright;
  const auto makeRoom = [](std::vector<uint8_t>& bytes, size_t needed) {
    if (bytes.size() > kHugeBytes && needed < bytes.size() / 4) std::vector<uint8_t>().swap(bytes);
    if (bytes.size() < needed) bytes.resize(needed);
  };
  makeRoom(out.bytes, size);
  if (isTurned) makeRoom(s.stored, size);
  s.readRows(isTurned ? s.stored.data() : out.bytes.data(), stride);
  if (s.wholeScan) {
    // Like PIL, do not mind when nothing but the end is missing.
    const bool ended = s.attempt([&s] { jpeg_finish_decompress(&s.info); });
    if (!ended && s.failure != Failure::kTruncated) s.throwFailure();
  }
  s.close();

  out.box = uprightBox(s.box, s.orientation, width, height);
  out.stride = static_cast<size_t>(out.box.width) * 3;
  if (isTurned) {
    turnUpright(s.stored.data(), stride, s.box.width, s.box.height, s.orientation,
                out.bytes.data());
  }
}

bool jpegSupported() { return true; }

const char* jpegLibraryVersion() { return kVersion; }

#else

namespace moco::image {

struct JpegDecoder::State {};

JpegDecoder::JpegDecoder() = default;

JpegDecoder::Info JpegDecoder::open(const uint8_t*, size_t, bool) {
  throw ImageError("the addon was built without libjpeg-turbo");
}

void JpegDecoder::decode(const Box&, Region&) {
  throw ImageError("the addon was built without libjpeg-turbo");
}

bool jpegSupported() { return false; }

const char* jpegLibraryVersion() { return ""; }

#endif

JpegDecoder::~JpegDecoder() = default;

bool looksLikeJpeg(const uint8_t* bytes, size_t length) {
  return length >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

}  // namespace moco::image
